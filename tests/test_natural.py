"""The natural loop's parts that need neither model nor server: its recipe, its sizes, its sets, the taken port."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from benchmarks import natural
from resources.inputs.evaluation_sets import scored_folders
from resources.inputs.prompt_files import prompt_set
from speed_assets.domain.prompts import PROMPT_KINDS
from speed_assets.domain.task_types import TOPIC_TYPES
from speed_assets.recipe import RecipeError, load_recipe


def test_the_recipe_loads_with_its_own_prompts_and_sets() -> None:
    recipe = load_recipe("natural")
    prompts = prompt_set(recipe.prompts)
    for task_type in TOPIC_TYPES:
        text = prompts.synthesis(task_type, "Match a remark with its answer.", {})
        assert "Match a remark with its answer." in text
        assert "{" not in text
    assert {folder.name for folder in scored_folders(recipe.evaluation.local)} == {"everyday_search", "everyday_pairs"}
    assert set(PROMPT_KINDS) == {"brainstorm", "synthesis", "judge", "revise"}


def test_the_small_size_asks_for_the_same_stages_with_fewer_rows() -> None:
    recipe = load_recipe("natural")
    small = natural.sized(recipe, "ci")
    assert natural.sized(recipe, "full") is recipe
    assert set(recipe.graph()) - set(small.graph()) == {"baseline_models"}  # a second training to compare with
    assert small.seed_data.rows.total() < recipe.seed_data.rows.total() / 2
    assert small.teacher == recipe.teacher
    # The only gates it loosens: a handful of rows says nothing about a judge, and three steps nothing about a loss.
    loosened = {"judge_contradictions_max", "loss_drop_min"}
    assert small.checks.model_dump(exclude=loosened) == recipe.checks.model_dump(exclude=loosened)


def test_peoples_sets_are_scored_where_they_are(shared: Path, tmp_path: Path) -> None:
    recipe = load_recipe("natural")
    with_people = natural.with_sets(recipe, shared / "data", tmp_path / "sets")
    assert {Path(folder).name for folder in with_people.evaluation.local} >= {"med_beir", "stsb", "xquad_en"}
    assert len(scored_folders(with_people.evaluation.local)) == 5
    assert natural.with_sets(recipe, tmp_path / "nothing", tmp_path / "sets") == recipe


def test_a_taken_port_is_reported(tmp_path: Path) -> None:
    recipe = load_recipe("natural")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        endpoint = f"http://127.0.0.1:{taken.getsockname()[1]}/v1"
        busy = recipe.model_copy(update={"teacher": recipe.teacher.model_copy(update={"endpoint": endpoint})})
        with pytest.raises(RecipeError, match="is taken"), natural.teacher(busy, tmp_path, "python"):
            pytest.fail("it must not start")


def test_one_server_is_teacher_base_and_adapters(tmp_path: Path) -> None:
    recipe = load_recipe("natural")
    assert recipe.generator is not None
    assert recipe.generator.endpoint == recipe.teacher.endpoint
    arguments = natural.server_arguments(recipe, tmp_path)
    names = arguments[arguments.index("--served-model-name") + 1 :]
    assert names == [recipe.teacher.model, str(tmp_path)]
    assert "--enable-lora" in arguments
    assert arguments[arguments.index("--max-lora-rank") + 1] == "16"
    for size in ("full", "ci"):  # nobody waits for a place
        assert natural.sized(recipe, size).generator.batch_rows >= recipe.calls.concurrency_max


@pytest.mark.parametrize(
    ("flags", "dtype"),
    [
        ("fpu avx avx2 f16c", "float32"),
        ("avx2 avx512f avx512_vnni", "bfloat16"),
        ("fp asimd bf16", "bfloat16"),
        ("", "float32"),
    ],
)
def test_the_server_computes_in_what_the_cpu_multiplies(flags: str, dtype: str) -> None:
    assert natural.server_dtype(f"processor : 0\nflags\t\t: {flags}\n") == dtype
