"""What the `speed` command prints: help, suggestions, tables, colours, progress, new projects and the schema."""

from __future__ import annotations

import io
import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import typer
from rich.console import Console

from speed_assets.cli import entry, main
from speed_assets.cli.app import app
from speed_assets.cli.live import LiveBars
from speed_assets.cli.output import table
from speed_assets.cli.running import score_table
from speed_assets.orchestration.explain_field import describe_field, explain_field
from speed_assets.orchestration.new_project import TEMPLATES, new_project
from speed_assets.recipe import PROJECT, Recipe, RecipeError, load_recipe
from speed_assets.recipe.field_paths import all_fields

COMMANDS = (
    "run", "plan", "rehearse", "study", "ui", "show", "quarantine", "cost", "data-docs", "ledger", "releases", "diff",
    "verify", "rollback", "push", "search", "serve", "check-served", "init", "explain", "schema",
)  # fmt: skip


def output(capsys: pytest.CaptureFixture[str], *arguments: str, status: int = 0) -> str:
    assert main(list(arguments)) == status
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err
    return captured.out if status == 0 else captured.err


def test_help_names_commands_environment_and_statuses(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERMINAL_WIDTH", "80")
    text = output(capsys)
    for word in (*COMMANDS, "SPEED_HOME", "SPEED_RECIPE", "SPEED_TOPICS", "--home", "--version", "130", "143"):
        assert word in text
    lines = [line.strip() for line in text.splitlines()]
    assert max(map(len, text.splitlines())) <= 80
    begin = next(number for number, line in enumerate(lines) if line.startswith("The method is SPEED"))
    assert len(lines[begin]) + len(lines[begin + 1].split()[0]) > 70, "a paragraph is wrapped once"
    assert output(capsys, "--version").startswith("speed-assets ")


@pytest.mark.parametrize("command", [*COMMANDS, "ledger show", "ledger export", "ledger prune"])
def test_every_argument_has_help_and_every_command_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    group: Any = typer.main.get_command(app)
    found: Any = group
    for name in command.split():
        found = found.commands[name]
    assert found.help
    assert f"Example: speed {command.split()[0]}" in found.epilog
    for parameter in found.params:
        assert parameter.help or getattr(parameter, "hidden", False), parameter.name
        assert "[" not in (parameter.help or ""), f"{parameter.name}: rich takes brackets for markup and prints nothing"
    has_json = any("--json" in parameter.opts for parameter in found.params)
    assert has_json or command in ("ui", "serve")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("rnu",), "Did you mean 'run'?"),
        (("run", "--recipe", "ofline"), "Did you mean offline?"),
        (("show", "embeding_model"), "Did you mean embedding_model?"),
        (("explain", "embedding_model.batch_sise"), "Did you mean embedding_model.batch_size"),
        (("run", "--recipes", "offline"), "--recipe"),
        (("plan", "--home", "elsewhere"), "--home goes before the command: `speed --home DIR plan`"),
        (("ledger", "prune", "--home=elsewhere"), "`speed --home DIR ledger prune`"),
        (("plan", "--version"), "--version goes before the command: `speed --version`"),
        (("plan", "--set", "embedding_model.lerning_rate=1"), "Did you mean embedding_model.learning_rate?"),
        (("plan", "--set", "retrival=1"), "Did you mean seed_data.rows.retrieval,"),
        (("plan", "--set", "teachr.model=x"), "teachr: unknown field. Did you mean teacher?"),
        (("explain", "input_per_milion"), "Did you mean money.prices.models.<NAME>.input_per_million"),
    ],
)
def test_a_typo_gets_a_suggestion(
    arguments: tuple[str, ...], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = output(capsys, "--home", str(tmp_path / "home"), *arguments, status=2)
    assert words in text
    assert text.count("error:") == 1


def test_home_of_the_option_counts_for_this_command_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SPEED_HOME", str(tmp_path / "other"))
    assert f"no release in {tmp_path / 'mine'}" in output(capsys, "--home", str(tmp_path / "mine"), "releases")
    assert os.environ["SPEED_HOME"] == str(tmp_path / "other")


def test_a_termination_is_distinguished_from_an_interrupt_and_the_handler_is_restored(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = signal.getsignal(signal.SIGTERM)
    for number, status in ((signal.SIGTERM, 143), (signal.SIGINT, 130)):

        def interrupted(*_arguments: Any, number: int = number) -> Any:
            os.kill(os.getpid(), number)

        monkeypatch.setattr("speed_assets.recipe.load_recipe", interrupted)
        assert main(["explain", "seed"]) == status
        assert "the next run resumes" in capsys.readouterr().err
    assert signal.getsignal(signal.SIGTERM) is before
    assert entry.TERMINATED == 128 + signal.SIGTERM


def test_a_termination_is_one_where_dagster_has_replaced_the_handler(monkeypatch: pytest.MonkeyPatch) -> None:
    """While it runs, and afterwards, SIGTERM goes where SIGINT goes."""
    for number, status in ((signal.SIGTERM, 143), (signal.SIGINT, 130)):

        def interrupted(*_arguments: Any, number: int = number) -> Any:
            signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGINT))
            os.kill(os.getpid(), number)

        monkeypatch.setattr("speed_assets.recipe.load_recipe", interrupted)
        assert main(["explain", "seed"]) == status


def test_several_seeds_follow_one_option(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []

    def study(*_arguments: Any, seeds: Any, **_more: Any) -> dict[str, Any]:
        seen.append(list(seeds))
        raise RecipeError("enough")

    monkeypatch.setattr("speed_assets.orchestration.study.study", study)
    assert "enough" in output(capsys, "study", "--seeds", "4", "5", "6", status=2)
    assert seen == [[4, 5, 6]]
    assert "name seeds after --seeds" in output(capsys, "study", "4", status=2)


def test_a_closed_pipe_is_no_traceback(tmp_path: Path) -> None:
    command = f"{sys.executable} -m speed_assets.cli schema | head -n 1"
    done = subprocess.run(
        ["bash", "-c", command], cwd=PROJECT, capture_output=True, text=True, timeout=120, check=False
    )
    assert "Traceback" not in done.stderr
    assert done.stdout == "{\n"


TASKS = [f"Microworld{name}" for name in ("Classification", "Retrieval", "STS", "PairClassification", "Clustering")]


def test_a_score_table_fits_80_columns_and_cuts_no_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    reruns = [f"embedding_model rerun {number}" for number in range(1, 8)]
    models = ["embedding_model", "untrained", "bm25", "seed_data", "junior_data", *reruns]
    scores = {model: dict.fromkeys(TASKS, 0.5 + at / 100) for at, model in enumerate(models)}
    lines = table(*score_table(scores))
    assert max(map(len, lines)) <= 80
    text = "\n".join(lines)
    for name in (*TASKS, *models[:5], "mean of 7 reruns"):
        assert name in text
    assert re.search(r"mean .*0\.500", text)


def test_a_long_text_is_wrapped_in_the_last_column(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    lines = table(
        ["asset", "rows", "state"], [["senior_data/classification", "1,000", "a reason of several words " * 4]], (0, 2)
    )
    assert max(map(len, lines)) <= 60
    assert " ".join(" ".join(lines).split()).count("reason") == 4


def test_colours_are_for_terminals_only(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "speed_assets.cli", "--home", str(tmp_path), "show"]
    plain = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=120, check=True).stdout
    assert "\x1b" not in plain
    reader, writer = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "80"}
    environment.pop("NO_COLOR", None)
    done = subprocess.run(command, cwd=PROJECT, stdout=writer, env=environment, timeout=120, check=False)
    os.close(writer)
    assert done.returncode == 0
    shown = os.read(reader, 100_000).decode()
    os.close(reader)
    assert "\x1b[1m" in shown
    lines = re.sub(r"\x1b\[[0-9;]*m", "", shown).splitlines()
    assert max(map(len, lines)) <= 80
    assert any(line.startswith("preference_pairs/matching_short ") for line in lines)


@pytest.mark.parametrize("template", TEMPLATES)
def test_a_new_project_plans(template: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "My Model"
    text = output(capsys, "init", str(folder), "--template", template)
    assert "speed rehearse" in text
    names = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert names >= {"recipe.yaml", "topics.txt", ".env.example", "README.md", "recipe.schema.json"}
    recipe, shipped = load_recipe(folder / "recipe.yaml"), load_recipe(template)
    assert recipe.name == "my_model"
    assert Path(recipe.topics.file).parent == folder
    same = {"name", "description", "topics"}
    assert recipe.model_dump(exclude=same) == shipped.model_dump(exclude=same)
    assert "is not empty" in output(capsys, "init", str(folder), status=2)


def test_a_new_project_is_not_written_into_files(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RecipeError, match="cannot be written"):
        new_project(tmp_path / "file" / "project")


def test_the_schema_knows_every_section_and_its_meaning(capsys: pytest.CaptureFixture[str]) -> None:
    schema = json.loads(output(capsys, "schema"))
    assert set(Recipe.model_fields) <= set(schema["$defs"]["Recipe"]["properties"])
    assert set(Recipe.model_fields) <= set(schema["$defs"]["Part-of-Recipe"]["properties"])
    assert "in-batch negatives" in schema["$defs"]["EmbeddingModel"]["properties"]["batch_size"]["description"]


def test_a_field_is_explained_with_what_it_makes_stale() -> None:
    recipe = load_recipe("offline")
    found = explain_field(recipe, "embedding_model.learning_rate")
    assert "embedding_model" in found.stale
    assert "release" in {*found.stale, *found.downstream}
    assert not {"seed_data", "final_triplets"} & {*found.stale, *found.downstream}
    assert found.value == recipe.embedding_model.learning_rate
    # Which topics are drawn follows from the numbers of rows.
    assert explain_field(recipe, "seed_data.rows").stale == ["task_list", "seed_data", "release"]
    assert explain_field(recipe, "checks.kept_min").checks == ["final_triplets: kept_share"]
    assert explain_field(recipe, "runtime.threads").stale == []
    assert explain_field(recipe, "ngram").field == "final_triplets.contamination.ngram"
    with pytest.raises(RecipeError, match="several fields are called batch_size"):
        explain_field(recipe, "batch_size")


SOURCES = re.compile(r"paper|\bours?\b|arXiv|measured|E5-mistral|OpenAI|NV-Retriever", re.IGNORECASE)


def test_every_field_is_explained_and_every_default_number_has_a_source() -> None:
    """A field has a description, or is a section with one; a number's source is in its description or its section's."""
    for path in all_fields():
        found = describe_field(path)
        assert found.type
        assert len(found.meaning.split()) > 1, path
        assert found.meaning != "no description", path
        if isinstance(found.default, int | float) and not isinstance(found.default, bool):
            section = re.sub(r"(\.<\w+>)*\.\w+$", "", path)
            around = describe_field(section) if section != path else found
            owner = found.meaning + around.meaning + around.about
            assert SOURCES.search(owner), f"{path}: {found.meaning}"


def test_bars_move_while_standard_error_is_sent_into_a_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As Dagster does for as long as the steps of a run last."""
    monkeypatch.setenv("TERM", "xterm")
    ours, theirs = os.openpty()
    with open(theirs, "w", encoding="utf-8") as terminal, (tmp_path / "log").open("w") as log:
        monkeypatch.setattr(sys, "stderr", terminal)
        with LiveBars() as display:
            os.dup2(log.fileno(), theirs)
            display("junior_model")(3, 40, "loss 0.5")
            shown, end = b"", time.monotonic() + 20
            while b"loss 0.5" not in shown and time.monotonic() < end:
                if select.select([ours], [], [], 0.1)[0]:
                    shown += os.read(ours, 65536)
        assert b"junior_model loss 0.5" in shown
    assert (tmp_path / "log").read_text() == ""
    os.close(ours)


def test_bars_show_several_stages_and_the_last_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    display = LiveBars()
    stages = [display(name) for name in ("seed_data/sts", "junior_model", "task_list/sts")]
    for part in (0.5, 1.0):
        for report, done in zip(stages, (30, 10, 40), strict=True):
            report(round(part * done), 40, "rows")
        time.sleep(0.02)
    display.say("warning: too few rows")
    display.say("made   junior_model    1.0 s")
    console = Console(width=80, file=io.StringIO())
    console.print(display.renderable)
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert "seed_data/sts rows" in shown
    assert "30/40" in shown
    assert re.search(r"\d\.\d/s", shown), "steps a second"
    assert "warning: too few rows" in shown
    assert "junior_model" not in shown
    assert "task_list" not in shown, "a stage that is done has no bar"
    assert max(map(len, shown.splitlines())) <= 80
