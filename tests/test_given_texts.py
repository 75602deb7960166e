"""Rows of other task types than retrieval from passages: shares, what is given, what is asked, and what a changed document costs."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from resources.store.store import Store
from speed_assets.assets.junior import seed_data
from speed_assets.assets.triplets import filtered
from speed_assets.assets.writing import asked_rows
from speed_assets.domain.given_texts import fitting_sentences
from speed_assets.domain.grounded_rules import first_broken_rules_by_source
from speed_assets.domain.revising import draft_of_row, revise
from speed_assets.domain.rows import parse_outputs
from speed_assets.domain.task_types import GIVEN_TEXT_TYPES, GROUNDED_AS, TASK_TYPES
from speed_assets.orchestration import runs
from speed_assets.orchestration.doctor.corpus_probes import corpus
from speed_assets.orchestration.explain_field import explain_field
from speed_assets.orchestration.forget import forget
from speed_assets.orchestration.plan import plan
from speed_assets.orchestration.rehearse import rehearsal_of
from speed_assets.recipe import RECIPES, Recipe, RecipeError, parse_recipe
from tests.support.reading_teacher import reading, write_corpus
from tests.support.teacher_server import TeacherServer
from tests.test_corpus_loop import found, loop_data, recipe_of
from tests.test_grounded_rows import Table, passages_of, run_of
from tests.test_triplets import SECTION

URL = "http://127.0.0.1:1/v1"
ROWS = {"classification": 16, "retrieval": 16, "sts": 16, "matching_short": 0, "matching_long": 16}
ALL = {"classification": 1.0, "sts": 1.0, "matching_long": 1.0}


def shared(root: Path, shares: dict[str, float], rows: dict[str, int] = ROWS, **more: Any) -> Recipe:
    """The recipe of `recipe_of`, in which these shares of the rows are from passages."""
    data = recipe_of(URL, root).model_dump()
    data["seed_data"]["rows"] = rows
    data["corpus"] |= {"shares": shares}
    data["final_triplets"]["rules"].pop("languages")  # those that are drawn, where some are
    return Recipe.model_validate(data | more)


def written(recipe: Recipe, home: Path, task_type: str, table: pl.DataFrame) -> dict[str, pl.DataFrame]:
    """The tables of seed_data of a task type."""
    run = run_of(recipe, home, "seed_data", task_type, {"passages": {"grounded": Table(table)}})
    told = seed_data(run)
    assert told["asked"] == run.tables["data"].height + run.tables["quarantine"].height
    return run.tables


def test_shares_are_numbers_and_zero_changes_nothing(tmp_path: Path) -> None:
    write_corpus(tmp_path / "corpus", 2)
    for share in (0.0, 0.25, 1.0):
        recipe = shared(tmp_path, dict.fromkeys(ALL, share))
        rows = recipe.seed_data.rows
        for topic_type in ALL:
            assert (getattr(rows, topic_type), getattr(rows, GROUNDED_AS[topic_type])) == (16 - 16 * share, 16 * share)  # type: ignore[index]
        assert Recipe.model_validate(recipe.model_dump()) == recipe
    without, zero = shared(tmp_path, {}), shared(tmp_path, dict.fromkeys(ALL, 0.0))
    assert without.digest() == zero.digest()
    assert "shares" not in without.model_dump()["corpus"]
    assert "grounded_rows" not in without.model_dump()
    assert not {name for stage in without.graph().values() for name in stage.reads if name == "grounded_rows"}
    every = shared(tmp_path, ALL).graph()
    assert every["seed_data"].task_types == ("grounded", *GIVEN_TEXT_TYPES)
    assert not {"topics", "task_list"} & set(every), "nobody needs a topic"
    assert every["passages"].task_types == ("grounded",), "one table for all"
    half = shared(tmp_path, {"sts": 0.5}).graph()
    assert {"sts", "grounded_sts", "classification"} <= set(half["seed_data"].task_types)
    assert half["task_list"].task_types == ("classification", "sts", "matching_long")


def test_a_section_of_one_type_is_in_the_fingerprints_of_that_type_alone(tmp_path: Path) -> None:
    def parts(**sections: Any) -> dict[str, Any]:
        recipe = shared(tmp_path, ALL, grounded_rows=sections)
        stage = recipe.graph()["seed_data"]
        return {name: recipe.part(stage, name) for name in stage.task_types}

    before, after = parts(), parts(sts={"words_min": 9})
    assert {name for name in before if before[name] != after[name]} == {"grounded_sts"}
    assert "grounded_rows" not in before["grounded"]
    assert set(before["grounded_sts"]["grounded_rows"]) == {"sts"}
    told = explain_field(shared(tmp_path, ALL), "grounded_rows.sts.words_min")
    assert told.stale[0] == "seed_data"


def test_what_does_not_fit_is_refused_with_what_to_do(tmp_path: Path) -> None:
    for sections, message in (
        ({"sts": {"words_min": 30, "words_max": 20}}, "words_min=30 is more than words_max=20"),
        (
            {"classification": {"tasks": [{"task": "Tell what it is.", "labels": ["a", "A"]}]}},
            "give each class one name",
        ),
        (
            {"classification": {"tasks": [{"task": "Tell what it is.", "labels": ["a, b", "c"]}]}},
            "reads as two: reword it",
        ),
        ({"classification": {"tasks": []}}, "at least 1 item"),
        ({"matching_long": {"tasks": ["short"]}}, "at least 8 characters"),
    ):
        with pytest.raises(ValueError, match=message):
            shared(tmp_path, ALL, grounded_rows=sections)
    with pytest.raises(ValueError, match="less than or equal to 1"):
        shared(tmp_path, {"sts": 1.5})
    with pytest.raises(ValueError, match="`corpus` is missing: seed_data asks for grounded rows"):
        shared(tmp_path, {}, {**ROWS, "grounded_sts": 4}, corpus=None, own_evaluation=None)


@pytest.mark.parametrize("prompts", ["full", "compact"])
def test_the_given_text_is_of_the_passage_verbatim(prompts: str, tmp_path: Path) -> None:
    write_corpus(tmp_path / "corpus", 40)
    recipe = shared(tmp_path, ALL, prompts={"set": prompts})
    table = passages_of(recipe, tmp_path / "home").tables["data"]
    text_of = dict(table.select("passage_id", "text").rows())
    for task_type in GIVEN_TEXT_TYPES:
        rows = written(recipe, tmp_path / "home", task_type, table)["data"]
        assert rows.height == 16, (task_type, rows)
        assert rows["row_id"].is_unique().all()
        for row in rows.iter_rows(named=True):
            whole = text_of[row["task_id"]]
            assert row["query"] == whole if task_type != "grounded_sts" else row["query"] in whole
            assert row["positive"]
            assert row["negative"]
            assert row["positive"] != row["negative"]
            assert set(json.loads(row["output"])) == set(TASK_TYPES[task_type].keys), "the passage is not written again"
            shown = row["query"].replace("\n", " ") if prompts == "compact" else row["query"]
            assert shown in row["prompt"]
        if task_type == "grounded_classification":
            named = rows.select(pl.col("task").str.contains(pl.col("positive"), literal=True)).to_series()
            assert named.all()
            assert rows["task"].n_unique() > 2
    drawn = {name: set(written(recipe, tmp_path / "home", name, table)["data"]["task_id"]) for name in GIVEN_TEXT_TYPES}
    assert len(set.union(*drawn.values())) > 24, "each type draws in an order of its own"


def test_sentences_are_whole_and_of_sensible_length() -> None:
    text = "Boilers > Safety and care of the thing\nIt heats. The old boiler heats three rooms of the house. Dr. Ray saw it and said so"
    assert fitting_sentences(text, 4, 20) == ["The old boiler heats three rooms of the house."]
    assert fitting_sentences("猫はとても静かに庭を歩いていました。犬。", 6, 40) == [
        "猫はとても静かに庭を歩いていました。"
    ]
    assert fitting_sentences("", 4, 20) == []


def test_a_corpus_without_a_sentence_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "corpus").mkdir()
    for number in range(30):
        cells = random.Random(number).choices(
            ["kettle", "ladder", "anchor", "violin", "pillow", "basket", "saddle"], k=60
        )
        (tmp_path / "corpus" / f"{number}.txt").write_text(" ".join(cells))
    recipe = shared(tmp_path, ALL)
    table = passages_of(recipe, tmp_path / "home").tables["data"]
    with pytest.raises(RecipeError, match=r"no sentence of 6 to 40 words in .* lower grounded_rows.sts.words_min"):
        written(recipe, tmp_path / "home", "grounded_sts", table)


def test_answers_are_read_and_revised_without_the_given_text() -> None:
    frame = pl.DataFrame(
        {
            "output": [
                '{"S2": "The kettle is near the mill.", "S3": "The mill burnt."}',
                '{"S2": "A lamp  stands there.", "S3": "No."}',
                '{"S1": "A lamp.", "S2": "A light.", "S3": "No."}',
            ],
            "passage": ["Near the mill is a kettle.", "A lamp stands there.", "A lamp."],
        }
    )
    rows = parse_outputs(frame, "grounded_sts")
    assert rows["query"].to_list() == frame["passage"].to_list()
    assert rows["positive"].to_list()[:2] == ["The kettle is near the mill.", "A lamp  stands there."]
    assert rows["problem"].to_list() == [None, "copied_query", "unknown_key"]
    draft = draft_of_row("grounded_sts", rows.row(0, named=True))
    assert "S1" not in json.loads(draft)
    revised = revise("grounded_sts", draft, '{"reason": "too far", "revision": {"S3": "The mill has no kettle."}}')
    assert json.loads(revised.record)["S3"] == "The mill has no kettle."


SENTENCE = "The lever next to the old boiler opens the second valve."
PASSAGE = "As an AI language model, I cannot help. The lever next to the old boiler opens the second valve and then"


def reasons(task_type: str, positive: str, negative: str, query: str = PASSAGE, **numbers: Any) -> Any:
    row = {
        "row_id": "r", "task_type": task_type, "topic": "T", "task": "Tell it. Classes: explains, warns.", "query": query,
        "positive": positive, "negative": negative,
    }  # fmt: skip
    frame = first_broken_rules_by_source(pl.DataFrame([row]), other_script_max=0.3, **numbers)
    return frame.row(0)


def test_what_is_written_is_read_and_the_passage_is_not() -> None:
    assert reasons("grounded_classification", "explains", "warns") == (None, None)
    assert reasons("grounded_classification", "explains", "argues") == ("label_not_named", "negative")
    assert reasons("grounded_classification", "classes", "warns") == ("label_not_named", "positive"), (
        "no word of the task alone"
    )
    assert reasons("grounded_classification", "Explains", "warns.") == (None, None)
    assert reasons("grounded_classification", "explains", "argues", skip=("label_not_named",)) == (None, None)
    good = "Somebody turned the lever of a boiler."
    assert reasons("grounded_matching_long", good, "A boiler can be painted.") == (None, None)
    assert reasons("grounded_matching_long", "Cats sleep all day.", good) == ("unlike_passage", "positive")
    assert reasons("grounded_sts", "Cats sleep all day.", good) == (None, None), "a paraphrase may share no word"
    assert reasons("grounded_sts", good, f"{SENTENCE} So it is.", query=SENTENCE) == ("query_in_negative", "negative")
    whole = f"{SENTENCE} So it is, and so it was when the house was built."
    assert reasons("grounded_matching_long", whole, good, query=SENTENCE) == ("query_in_positive", "positive")
    assert reasons("grounded_sts", whole, good, query=SENTENCE) == (None, None), "as of sentences about topics"
    assert reasons("grounded_sts", "As an AI language model, I cannot write that.", good)[0] is not None


def test_rows_of_one_passage_are_compared_by_what_is_written() -> None:
    def row(
        number: int, task_type: str, positive: str, negative: str, task: str, query: str = PASSAGE
    ) -> dict[str, str]:
        return {
            "row_id": f"r{number}", "task_type": task_type, "topic": "T", "task": task, "query": query, "positive": positive,
            "negative": negative,
        }  # fmt: skip

    one, two = "Tell it. Classes: explains, warns.", "Say for whom. Classes: boilermen, children."
    text = "Somebody turned the lever of a boiler in the cellar and went away before the water was hot."
    rows = [
        row(0, "grounded_classification", "explains", "warns", one),
        row(1, "grounded_classification", "boilermen", "children", two),
        row(2, "grounded_classification", "explains", "warns", one),
        row(3, "grounded_matching_long", text, "The boiler is for sale at a low price.", "Match it with a report."),
        row(4, "grounded_matching_long", "A boiler wants its valve to be closed at night, says the keeper.", "Not so.", "Match it with a report."),
        row(5, "grounded_matching_long", text + " So it was.", "The boiler is sold.", "Match it with a report."),
    ]  # fmt: skip
    funnel = filtered(pl.DataFrame(rows), SECTION, {}, 1)
    assert funnel.quarantine.select("row_id", "reason").rows()[0][1] == "near_duplicate"
    assert funnel.quarantine["reason"].unique().to_list() == ["near_duplicate"]
    assert funnel.rows.height == 4
    assert {"r1", "r4"} < set(funnel.rows["row_id"])


def test_a_changed_document_touches_its_own_rows(tmp_path: Path) -> None:
    write_corpus(tmp_path / "corpus", 60)
    recipe = shared(tmp_path, ALL)
    before = passages_of(recipe, tmp_path / "one").tables["data"]
    rows = {name: written(recipe, tmp_path / "home", name, before)["data"] for name in GIVEN_TEXT_TYPES}
    changed = before.filter(pl.col("passage_id").is_in(rows["grounded_sts"]["task_id"].implode()))["document_id"][0]
    path = tmp_path / "corpus" / changed
    path.write_text(path.read_text().replace("before we could", "long before we had to"))
    after = passages_of(recipe, tmp_path / "two").tables["data"]
    gone = set(before.filter(document_id=changed)["passage_id"])
    for name, table in rows.items():
        later = written(recipe, tmp_path / "home", name, after)["data"]
        own = table.filter(pl.col("task_id").is_in(list(gone))).height
        key = ["row_id", "prompt", "query", "positive"]
        assert later.join(table, on=key, how="semi").height >= table.height - own - 2, name
        assert not gone & set(later["task_id"]), name


def test_forgetting_finds_rows_that_hold_a_sentence_alone(tmp_path: Path) -> None:
    write_corpus(tmp_path / "corpus", 30)
    recipe, home = shared(tmp_path, ALL), tmp_path / "home"
    store = Store(home).open()
    fingerprint = 0

    def sealed(asset: str, tables: dict[str, pl.DataFrame], **metadata: Any) -> None:
        nonlocal fingerprint
        fingerprint += 1
        name = f"{fingerprint:064x}"
        with store.building(name) as out:
            for table, frame in tables.items():
                frame.write_parquet(out / f"{table}.parquet")
            store.seal(asset, name, out, partition=None, metadata=metadata, lineage={"inputs": {}})

    table = passages_of(recipe, tmp_path / "made").tables["data"]
    rows = written(recipe, tmp_path / "made", "grounded_sts", table)["data"]
    sealed("passages", {"data": table}, parts={})
    sealed("seed_data", {"data": rows})
    sealed("final_triplets", {"data": rows.select("row_id", "task_type", "topic", "query", "positive", "negative")})
    passage = rows["task_id"][0]
    document = table.filter(passage_id=passage)["document_id"][0]
    own = table.filter(document_id=document)["passage_id"].implode()
    of_document = rows.filter(pl.col("task_id").is_in(own)).height
    held = {one.name: one.rows for one in forget(recipe, home, document).held}
    assert held["seed_data"] == held["final_triplets"] == of_document > 0


def test_the_plan_counts_their_calls(tmp_path: Path) -> None:
    write_corpus(tmp_path / "corpus", 12)
    recipe = shared(tmp_path, {"sts": 0.5, "matching_long": 1.0})
    steps = {(step["asset"], step["partition"]): step for step in plan(recipe, tmp_path / "home").as_json()["steps"]}
    assert steps["seed_data", "grounded_sts"]["calls"] == 8
    assert steps["seed_data", "grounded_matching_long"]["rows"] == 16
    assert ("seed_data", "matching_long") not in steps


def test_the_plan_counts_the_passage_in_prompts_that_nobody_knows_yet(tmp_path: Path) -> None:
    write_corpus(tmp_path / "corpus", 12)
    data = loop_of(tmp_path)
    steps = {(step["asset"], step["partition"]): step for step in plan(data, tmp_path / "home").as_json()["steps"]}
    judged = steps["revision_data", "grounded_classification"]
    assert judged["calls"] == 16
    assert judged["prompt_tokens_most"] >= 16 * 96, "corpus.tokens_max of each"


def test_the_doctor_looks_for_sentences(tmp_path: Path) -> None:
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus" / "table.txt").write_text("one two three\nfour five six\n")
    found = corpus(shared(tmp_path, {"sts": 1.0}))
    assert [one.status for one in found] == ["ok", "warning"]
    assert "a sentence of 6 to 40 words" in found[1].line
    assert len(corpus(shared(tmp_path, {"classification": 1.0}))) == 1


def loop_of(root: Path, url: str = URL) -> Recipe:
    """The loop with generators, whose classification and STS rows are all from passages."""
    data = loop_data(url, root)
    asked = {"classification": 16, "retrieval": 0, "sts": 16, "matching_short": 0, "matching_long": 0}
    data["corpus"]["shares"] = {"classification": 1.0, "sts": 1.0}
    for section in ("junior_data", "preference_pairs"):
        data[section]["prompts"] = asked
    for section in ("senior_data", "revision_data"):
        data[section]["rows"] = asked
    data["seed_data"]["rows"] = {**asked, "classification": 48, "sts": 48}
    return parse_recipe(data, RECIPES / "own_loop.yaml")


@pytest.mark.faults
def test_generators_learn_to_write_opposite_given_texts(tmp_path: Path) -> None:
    write_corpus(tmp_path / "corpus", 30)
    home = tmp_path / "home"
    with TeacherServer(reading()) as server:
        recipe = loop_of(tmp_path, server.url)
        planned = plan(recipe, home).as_json()["calls"]
        assert runs.run(recipe, home).errors == []
        assert 0.5 * planned <= len(server.served) <= planned
    texts = set(found(recipe, home, "passages", "grounded").table()["text"])
    for task_type in ("grounded_classification", "grounded_sts"):
        senior = found(recipe, home, "senior_data", task_type).table()
        revised = found(recipe, home, "revised_data", task_type).table()
        for rows in (senior, revised):
            given = rows["query"].to_list()
            assert (
                all(any(one in text for text in texts) for one in given) if "sts" in task_type else set(given) <= texts
            )
    valid = found(recipe, home, "senior_data", "grounded_classification").table()["valid"].sum()
    assert valid > 0
    assert found(recipe, home, "preference_pairs", "grounded_classification").table().height > 0
    assert found(recipe, home, "final_triplets").table().height > 0


def test_a_rehearsal_keeps_their_types(tmp_path: Path) -> None:
    write_corpus(tmp_path / "corpus", 2)
    rehearsed = rehearsal_of(loop_of(tmp_path), 6)
    assert {name: rows.grounded_sts for name, rows in rehearsed.rows_by_stage().items()} == dict.fromkeys(
        ("seed_data", "junior_data", "preference_pairs", "senior_data", "revision_data"), 6
    )
    assert rehearsed.seed_data.rows.sts == 0
    assert rehearsed.graph()["senior_data"].task_types == ("grounded_classification", "grounded_sts")


@pytest.mark.parametrize("prompts", ["full", "compact"])
def test_languages_are_drawn_for_what_is_written(prompts: str, tmp_path: Path) -> None:
    write_corpus(tmp_path / "corpus", 40)
    languages = {"shares": {"de": 1.0, "fr": 1.0}, "same_as_passage": 0.0}
    recipe = shared(tmp_path, ALL, prompts={"set": prompts}, languages=languages)
    table = passages_of(recipe, tmp_path / "home").tables["data"]
    for task_type in GIVEN_TEXT_TYPES:
        run = run_of(recipe, tmp_path / "home", "seed_data", task_type, {"passages": {"grounded": Table(table)}})
        asked = asked_rows(run, run.section.rows)
        if task_type == "grounded_classification":
            assert asked["document_language"].null_count() == asked.height
            continue
        assert set(asked["document_language"]) == {"de", "fr"}
        said = asked.select(pl.col("prompt").str.contains("in German") == (pl.col("document_language") == "de"))
        assert said.to_series().all()
    same = shared(tmp_path, ALL, prompts={"set": prompts}, languages={"shares": {"en": 1.0, "fr": 1.0}})
    run = run_of(same, tmp_path / "home", "seed_data", "grounded_sts", {"passages": {"grounded": Table(table)}})
    asked = asked_rows(run, run.section.rows)
    assert asked["prompt"].str.contains("in the language of the passage").all()
    assert asked["query_language"].equals(asked["document_language"], null_equal=True)
    assert "en" in set(asked["query_language"])
