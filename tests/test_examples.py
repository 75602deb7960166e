"""The user's own examples: read, as seed rows, in prompts, and out of releases and hosted teachers."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from resources.inputs.example_files import examples_digest, read_examples, refusals
from resources.ledger.calls import Allowance, AnswerSink, TeacherAnswer, TeacherRequest
from resources.store.artifacts import Artifacts
from resources.store.store import Store
from speed_assets.assets.examples import examples
from speed_assets.assets.junior import seed_data
from speed_assets.domain.few_shot import drawn_examples
from speed_assets.orchestration import runs
from speed_assets.orchestration.doctor import input_probes
from speed_assets.orchestration.plan import plan
from speed_assets.recipe import RECIPES, Examples, Recipe, RecipeError, parse_recipe
from tests.support.reading_teacher import note, write_corpus
from tests.support.tiny import tiny_data, tiny_recipe
from tests.test_corpus_loop import own_set, recipe_of
from tests.test_grounded_rows import Reader, Table, passages_of, run_of

URL = "http://127.0.0.1:1/v1"


def passage(number: int) -> str:
    return note(number).split("\n\n")[2]


def query(number: int) -> str:
    words = sorted({word.strip(".").lower() for word in passage(number).split() if len(word) > 5})
    return " ".join(words[:4])


def own_file(folder: Path, count: int, **more: Any) -> str:
    rows = [{"query": query(n), "positive": passage(n), **more} for n in range(500, 500 + count)]
    file = folder / "own.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(file)


def with_own(recipe: Recipe, file: str, endpoint: str = URL, **more: Any) -> Recipe:
    data = recipe.model_dump()
    data["examples"] = {"file": file, "task_type": "grounded", **more}
    data["teacher"]["endpoint"] = endpoint
    return Recipe.model_validate(data)


def section(file: Path, **more: Any) -> Examples:
    return Examples(file=str(file), **more)


@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "parquet"])
def test_any_subset_of_columns_in_any_format(kind: str, mark: str, tmp_path: Path) -> None:
    rows = pl.DataFrame({"q": ["a lamp", None, " "], "text": ["a text", "alone", None], "n": ["x", "y", "z"]})
    file = tmp_path / f"own.{kind}"
    match kind:
        case "csv":
            file.write_text(mark + rows.write_csv(), encoding="utf-8")
        case "tsv":
            file.write_text(mark + rows.write_csv(separator="\t"), encoding="utf-8")
        case "jsonl":
            file.write_text(mark + rows.write_ndjson(), encoding="utf-8")
        case _:
            rows.write_parquet(file)
    found = read_examples(section(file, columns={"query": "q", "positive": "text"}))
    assert found["query"].to_list() == ["a lamp", None, None]
    assert found["positive"].to_list() == ["a text", "alone", None]
    assert found["negative"].null_count() == 3
    reasons = refusals(found.with_columns(pl.col("task_type").fill_null("retrieval")))["reason"].to_list()
    assert reasons == [None, None, "no_text"]


def test_files_that_cannot_be_used_say_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("question,answer\na,b\n")
    (tmp_path / "b.txt").write_text("a")
    (tmp_path / "c.jsonl").write_text('{"query": ')
    (tmp_path / "d.csv").write_bytes(b"query\n\xff\xfa\n")
    for name, more, message in (
        ("a.csv", {}, r"no column query and no column positive \(it has question, answer\): name its columns under"),
        ("b.txt", {}, "give one of .jsonl, .csv"),
        ("c.jsonl", {}, "examples.file"),
        ("d.csv", {}, "is not utf-8"),
        ("e.csv", {}, "there is no file"),
        ("a.csv", {"rows_max": 1, "columns": {"query": "question"}}, None),
    ):
        if message is None:
            assert read_examples(section(tmp_path / name, **more)).height == 1
            continue
        with pytest.raises(RecipeError, match=message):
            read_examples(section(tmp_path / name, **more))
    (tmp_path / "a.csv").write_text("query\na\nb\n")
    with pytest.raises(RecipeError, match=r"2 rows, examples.rows_max is 1"):
        read_examples(section(tmp_path / "a.csv", rows_max=1))


def test_one_text_as_csv_and_as_tsv_is_two_inputs(tmp_path: Path) -> None:
    files = [tmp_path / "a.csv", tmp_path / "a.tsv"]
    for file in files:
        file.write_text('query\n"is it ""open"""\n')
    csv, tsv = (read_examples(section(file))["query"].to_list() for file in files)
    assert csv != tsv
    assert examples_digest(section(files[0])) != examples_digest(section(files[1]))


def test_rows_are_checked_and_marked(tmp_path: Path) -> None:
    good = {
        "query": "how to fix a lamp",
        "positive": "Turn it off first.",
        "negative": "Lamps are old.",
        "task": "Find it.",
    }
    rows = [
        good,
        good,
        {"query": "only a query"},
        {"query": "the same", "positive": "the same", "negative": "other"},
        {"task_type": "poems", "query": "a"},
        {"query": "a pair", "positive": "its match", "task_type": "matching_short"},
    ]
    file = tmp_path / "own.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe = tiny_recipe(
        teacher={**tiny_data()["teacher"], "engine": "openai", "endpoint": URL}, examples={"file": str(file)}
    )
    assert recipe.graph()["examples"].task_types == recipe.graph()["seed_data"].task_types
    run = run_of(recipe, tmp_path, "examples", "retrieval")
    told = examples(run)
    table, rejected = run.tables["data"], run.tables["quarantine"]
    assert (told["asked"], told["complete"]) == (5, 1)
    assert table["query"].to_list() == ["how to fix a lamp", "only a query"]
    assert table["complete"].to_list() == [True, False]
    assert rejected.height == 3, "the third has equal texts"
    assert {"duplicate", "unknown_task_type"} < set(rejected["reason"])
    other = run_of(recipe, tmp_path / "other", "examples", "matching_short")
    assert examples(other)["complete"] == 1


def test_examples_differ_between_rows() -> None:
    texts = [f"query {n}" for n in range(4)]
    drawn = {row: drawn_examples(texts, 3, 1, row) for row in map(str, range(30))}
    assert {len(found) for found in drawn.values()} == {3}
    assert len({frozenset(found) for found in drawn.values()}) > 1
    assert len({frozenset(drawn_examples(texts[:2], 3, 1, row)) for row in map(str, range(30))}) == 2
    assert drawn_examples(texts[:1], 3, 1, "r") == []
    assert drawn["3"] == drawn_examples(texts, 3, 1, "3")


class Recording(Reader):
    """A reading teacher that keeps what it was sent."""

    def __init__(self) -> None:
        super().__init__()
        self.prompts: list[str] = []

    def answer(self, requests: Sequence[TeacherRequest], sink: AnswerSink, allowance: Allowance) -> None:
        self.prompts += [request.prompt for request in requests]
        allowance.reserve(requests)
        # The examples stand before the passage, which the teacher reads.
        sink([(request, TeacherAnswer(self._said(request), 10, 5, finished=True)) for request in requests])


def seeds(recipe: Recipe, home: Path, engine: Any) -> tuple[Any, dict[str, Any]]:
    table = passages_of(recipe, home).tables["data"]
    own = run_of(recipe, home, "examples", "grounded")
    examples(own)
    inputs = {"passages": {"grounded": Table(table)}, "examples": {"grounded": Table(own.tables["data"])}}
    run = run_of(recipe, home, "seed_data", "grounded", inputs, engine)
    return run, seed_data(run)


def test_complete_examples_stand_in_and_the_teacher_is_shown_some(tmp_path: Path) -> None:
    write_corpus(tmp_path / "corpus", 40)
    recipe = with_own(recipe_of(URL, tmp_path), own_file(tmp_path, 10))
    engine = Recording()
    run, told = seeds(recipe, tmp_path / "home", engine)
    rows = run.tables["data"]
    own = rows.filter(topic="own examples")
    assert (told["asked"], told["own_examples"], own.height) == (24, 10, 10)
    assert told["asked"] == rows.height + run.tables["quarantine"].height
    assert set(own["positive"]) == {passage(n) for n in range(500, 510)}
    assert all(text in prompt for text, prompt in own.select("positive", "prompt").iter_rows())
    first = [prompt for prompt in engine.prompts if "again" not in prompt][:14]
    lists = [tuple(re.findall(r"^- (.+)$", prompt.split("\n\n")[0], re.MULTILINE)) for prompt in first]
    assert {len(found) for found in lists} == {3}
    assert len(set(lists)) > 7
    assert not rows.filter(pl.col("prompt").str.contains("queries of real users")).height, (
        "generators learn without them"
    )


def test_a_negative_of_ones_own_next_to_a_passage_is_kept(tmp_path: Path) -> None:
    write_corpus(tmp_path / "corpus", 40)
    recipe = with_own(recipe_of(URL, tmp_path), own_file(tmp_path, 10, negative="No kettle of ours has a lid."))
    run, _ = seeds(recipe, tmp_path / "home", Recording())
    own = run.tables["data"].filter(topic="own examples")
    assert own["negative"].to_list() == ["No kettle of ours has a lid."] * 10
    assert "No kettle" not in "".join(own["output"]), "a writer gives queries alone"
    assert run.tables["data"].filter(pl.col("topic") != "own examples")["negative"].null_count() == 14


def test_a_hosted_teacher_gets_no_example_unless_it_may(tmp_path: Path) -> None:
    write_corpus(tmp_path / "corpus", 40)
    base, file = recipe_of(URL, tmp_path), own_file(tmp_path, 10)
    hosted = "https://api.example.com/v1"
    for number, (more, sent) in enumerate((({}, False), ({"hosted_teachers": True}, True))):
        engine = Recording()
        seeds(with_own(base, file, hosted, seed_rows=4, **more), tmp_path / f"home{number}", engine)
        assert any(query(n) in prompt for n in range(500, 510) for prompt in engine.prompts) is sent
    data = with_own(base, file, hosted).model_dump()
    data["row_scores"], data["row_verdicts"] = tiny_data()["row_scores"], tiny_data()["row_verdicts"]
    data["row_verdicts"]["rows"] = {**data["seed_data"]["rows"], "grounded": 4}
    with pytest.raises(ValueError, match="row_verdicts would send examples to a hosted teacher"):
        Recipe.model_validate(data)


def test_sections_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    data = recipe_of(URL, tmp_path).model_dump()
    none = {"engine": "none", "model": "none", "endpoint": None}
    for change, message in (
        ({"examples": {"file": "x.csv"}}, "seed_data.rows asks for no such rows .it has grounded.: name one"),
        ({"teacher": data["teacher"] | none}, "`examples` is missing: teacher.engine=none"),
        (
            {"teacher": data["teacher"] | none, "examples": {"file": "x.csv", "task_type": "grounded"}},
            "own_evaluation asks the teacher, and teacher.engine=none: score on a folder of your own",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            Recipe.model_validate(data | change)


def test_only_what_reads_examples_has_them_in_its_fingerprint(tmp_path: Path) -> None:
    before = recipe_of(URL, tmp_path)
    after = with_own(before, own_file(tmp_path, 3))
    changed = {
        name
        for name, stage in after.graph().items()
        if after.part(stage) != before.part(before.graph().get(name, stage))
    }
    assert changed == {"seed_data", "release", "examples"}
    again = with_own(before, own_file(tmp_path, 3), released=True)
    assert [n for n, s in again.graph().items() if again.part(s) != after.part(s)] == ["release"]


def test_doctor_counts_examples(tmp_path: Path) -> None:
    write_corpus(tmp_path / "corpus", 2)
    base = recipe_of(URL, tmp_path)
    assert input_probes.examples(base) == []
    recipe = with_own(base, own_file(tmp_path, 3), "https://api.example.com/v1")
    (found,) = input_probes.examples(recipe)
    assert (found.status, found.line) == ("ok", "3 of 3 rows; none is sent to the teacher (examples.hosted_teachers)")
    (tmp_path / "own.jsonl").unlink()
    (found,) = input_probes.examples(recipe)
    assert found.status == "error"


def without_teacher(root: Path, rows: int = 24) -> Recipe:
    """Own examples, a corpus and a generator; nobody is asked."""
    write_corpus(root / "corpus", 30)
    data = tiny_data()
    asked = {"classification": 0, "retrieval": 16, "sts": 0, "matching_short": 0, "matching_long": 0}
    data |= {"name": "alone", "row_verdicts": None, "row_scores": None, "mined_negatives": None}
    data["corpus"] = {"path": str(root / "corpus"), "tokens_max": 96, "tokens_min": 16}
    data["teacher"] = {"engine": "none", "model": "none"}
    data["examples"] = {"file": own_file(root, 24), "task_type": "grounded"}
    data["seed_data"]["rows"] = {**asked, "retrieval": rows}
    for name, field in (("junior_data", "prompts"), ("preference_pairs", "prompts"), ("revision_data", "rows")):
        data[name][field] = asked
    data["senior_data"] |= {"rows": asked, "writer": "junior_model"}
    data["senior_data"]["sampling"]["max_new_tokens"] = 60
    data["junior_model"] |= {"epochs": 20}
    data["final_triplets"] = {"source": "senior_data", "rules": {"skip": ["noise", "unfinished"]}}
    data["mteb_scores"] = {"baselines": [], "untrained": True, "bm25": False}
    data["embedding_reruns"] = {"count": 0}
    data["evaluation"] = {"local": [str(own_set(root))]}
    data["checks"]["superior"]["over"] = []
    return parse_recipe(data, RECIPES / "alone.yaml")


@pytest.mark.faults
def test_no_teacher_at_all_to_a_release(tmp_path: Path) -> None:
    recipe, home = without_teacher(tmp_path), tmp_path / "home"
    assert plan(recipe, home).as_json()["calls"] == 0
    report = runs.run(recipe, home)
    assert report.errors == []
    artifacts = Artifacts(recipe, Store(home))
    seed = artifacts.get("seed_data", "grounded")
    assert (seed.table().height, seed.metadata["own_examples"]) == (24, 24)
    written = artifacts.get("senior_data", "grounded").table()
    assert written["valid"].sum() > 0, written["problem"].to_list()
    release = artifacts.get("release")
    manifest = json.loads((release.path / "manifest.json").read_text())
    assert manifest["teacher"]["calls"] == 0
    assert manifest["own_examples"] == {"rows": 24, "released": False}
    assert (
        "24 queries and pairs of the user are not among the rows" in (release.path / "data" / "README.md").read_text()
    )
    own = {text for n in range(500, 524) for text in (query(n), passage(n))}
    for file in release.path.rglob("*.parquet"):
        table = pl.read_parquet(file).select(pl.selectors.string())
        assert not own & set(table.unpivot()["value"]), file.name
    short = without_teacher(tmp_path, rows=30)
    (found,) = input_probes.examples(short)
    assert found.status == "error"
    assert "24 complete grounded rows, seed_data asks for 30" in found.line
