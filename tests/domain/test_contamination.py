"""Evaluation text in rows: planted copies are found, clean rows are left alone, in invented and in real sets."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from benchmarks.contamination_scan import HOW, PLANTS, found_share, longer, microworld_rows, plant
from resources.inputs.evaluation_sets import local_texts
from resources.inputs.external_digests import external_digest
from speed_assets.domain.contamination import EvaluationIndex, Limits
from speed_assets.domain.graph import ALL_STAGES
from speed_assets.microworld.evaluation import evaluation_sets
from speed_assets.recipe import RECIPES, RecipeError, load_recipe

TEXT = "the quick brown fox jumps over the lazy dog near the old mill by the river"
LIMITS = Limits(ngram=8, containment=0.6, words_min=10, neighbour=0.85)
FOUND_LEAST = {"verbatim": 0.99, "normalized": 0.99, "eight_of_ten_sentences": 0.95, "one_word_in_ten": 0.95}
FALSE_MOST = 0.001


def found(*texts: str | None, limits: Limits = LIMITS) -> list[tuple[str | None, str | None]]:
    index = EvaluationIndex({"fox": [TEXT, "is it so"], "label": ["true", "two words"]}, limits)
    return index.copies(pl.Series(texts, dtype=pl.String)).rows()


def test_each_way_of_copying_has_a_name() -> None:
    assert found(TEXT.upper() + "!!", "Is it\tso?") == [("fox", "exact")] * 2
    assert found("well, " + TEXT + " and so it goes on and on until the end of this long sentence") == [
        ("fox", "ngram")
    ]
    assert found(TEXT.replace("quick", "slow").replace("near", "by")) == [("fox", "neighbour")]


def test_what_only_looks_alike_is_left() -> None:
    others = "the quick brown fox sat down and wrote a novel about the sea instead of the river"
    assert found(others, "true", "two words", "a dog", "", None) == [(None, None)] * 6


def test_the_neighbour_can_be_left_out() -> None:
    edited = TEXT.replace("quick", "slow").replace("near", "by")
    assert found(edited, limits=Limits(8, 0.6, 10, None)) == [(None, None)]
    assert EvaluationIndex({}, LIMITS).copies(pl.Series([TEXT])).rows() == [(None, None)]


def held_against(sets: dict[str, list[str]]) -> None:
    for name, texts in sets.items():
        documents = longer(texts)
        index = EvaluationIndex({name: [*texts, *documents]}, LIMITS)
        for kind in PLANTS:
            copies = plant(documents if "sentences" in kind else texts, kind, seed=3, most=200)
            share = found_share(index, copies)
            assert share is not None
            assert share >= FOUND_LEAST[kind], (name, kind, share)


def false_alarms(index: EvaluationIndex, texts: list[str]) -> float:
    """Share taken for edited copies; the same text in two sets is an overlap of theirs."""
    how = index.copies(pl.Series(texts, dtype=pl.String))["how"]
    return how.is_in([HOW[2], HOW[3]]).sum() / len(texts)


def test_planted_copies_in_the_microworld() -> None:
    texts = [text for group in evaluation_sets(60, 300, seed=1).all_texts().values() for text in group]
    held_against({"microworld": texts})
    assert false_alarms(EvaluationIndex({"microworld": texts}, LIMITS), microworld_rows(10_000, 2)) <= FALSE_MOST


@pytest.mark.faults
def test_planted_copies_in_real_sets(shared: Path) -> None:
    sets = local_texts(str(path) for path in sorted((shared / "data").iterdir()) if path.is_dir())
    held_against(sets)
    for name, texts in sets.items():
        index = EvaluationIndex({other: group for other, group in sets.items() if other != name}, LIMITS)
        assert false_alarms(index, texts[:2_000]) <= FALSE_MOST, name


def test_the_recipes_use_the_limits_tested_here() -> None:
    for path in RECIPES.glob("*.yaml"):
        section = load_recipe(path).final_triplets.contamination
        assert Limits(**section.model_dump(exclude={"similarity"})) == LIMITS, path


def test_local_sets_are_read_from_every_format(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"_id": "1", "text": "one in lines"}\n\n{"sentences": ["two in a list"]}\n')
    (tmp_path / "b.tsv").write_text('text\tlabel\nthree with a " quote\tx\n')
    (tmp_path / "c.csv").write_text('text,label\n"four, quoted",x\n')
    pl.DataFrame({"text": ["five in parquet"], "n": [1], "many": [["six in a list"]]}).write_parquet(
        tmp_path / "d.parquet"
    )
    ((texts),) = local_texts([str(tmp_path)]).values()
    wanted = {
        "one in lines",
        "two in a list",
        'three with a " quote',
        "four, quoted",
        "five in parquet",
        "six in a list",
    }
    assert wanted <= set(texts)
    (tmp_path / "e.jsonl").write_text("no json\n")
    with pytest.raises(RecipeError, match=r"e\.jsonl cannot be read"):
        local_texts([str(tmp_path)])
    with pytest.raises(RecipeError, match=r"no \.jsonl"):
        local_texts([str(tmp_path / "nothing")])


def test_labels_ids_and_names_of_columns_are_no_texts(tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.mkdir()
    rows = [f"how do I get a new card number {i}\tlost or stolen card\t{i} in the list" for i in range(60)]
    (plain / "a.tsv").write_text("\n".join(["what customers write\tthe intent of it\tnumber of row", *rows]))
    (plain / "b.jsonl").write_text(
        '{"_id": "the first of all", "text": "what is it called", "labels": ["one of two labels"]}\n'
    )
    named = tmp_path / "named"
    named.mkdir()
    (named / "task.yaml").write_text(
        "name: Named\ntype: Classification\nsplits: {train: a.csv, test: a.csv}\nfields: {label: reply}\n"
    )
    (named / "a.csv").write_text("text,reply\nit was lost on Monday,a lost and stolen card\n")
    texts = local_texts([str(plain), str(named)])
    assert "lost or stolen card" not in texts["plain"]
    assert "how do I get a new card number 7" in texts["plain"]
    assert "what is it called" in texts["plain"]
    assert not {"the first of all", "one of two labels"} & {*texts["plain"]}
    assert texts["named"] == ["it was lost on Monday"]


def test_paragraphs_that_many_questions_share_are_texts(tmp_path: Path) -> None:
    paragraph = "The council decided on Tuesday evening that the bridge will be shut from the first of May."
    (tmp_path / "a.tsv").write_text(
        "\n".join(["question\tparagraph", *(f"why is it {i}\t{paragraph}" for i in range(99))])
    )
    ((texts),) = local_texts([str(tmp_path)]).values()
    assert paragraph in texts
    assert "why is it 3" in texts


def test_the_content_of_a_local_set_is_in_the_fingerprint_and_its_place_is_not(tmp_path: Path) -> None:
    digests = []
    places = (
        ("a/set", "one two three"),
        ("b/set", "one two three"),
        ("c/set", "four five six"),
        ("c/other", "four five six"),
    )
    for place, text in places:
        folder = tmp_path / place
        folder.mkdir(parents=True)
        (folder / "set.tsv").write_text(f"{text}\n")
        recipe = load_recipe("offline")
        evaluation = recipe.evaluation.model_copy(update={"local": (str(folder),)})
        recipe = recipe.model_copy(update={"evaluation": evaluation})
        assert (
            "local"
            not in recipe.part(next(stage for stage in ALL_STAGES if stage.name == "final_triplets"))["evaluation"]
        )
        digests.append(external_digest(recipe, "evaluation_texts", None))
    assert digests[0] == digests[1] != digests[2]
    assert digests[3] != digests[2], "scores and cards call the set by the name of its folder"
    evaluation = evaluation.model_copy(update={"local": (str(tmp_path / "none"),)})
    with pytest.raises(RecipeError, match="there is no folder"):
        external_digest(recipe.model_copy(update={"evaluation": evaluation}), "evaluation_texts", None)
