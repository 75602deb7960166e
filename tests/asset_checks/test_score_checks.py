"""Scores: better than every rival, and no worse than the release in use."""

from __future__ import annotations

import re

import polars as pl
import pytest

from checks.registry import Subject, checks_of, evaluate
from resources.releases.releases import roll_back
from speed_assets.recipe import OwnGain, Recipe
from tests.support.good_tables import good_table
from tests.support.shelf import (
    RECIPE,
    Shelf,
    recipe_with,
    scored,
    scores_without,
)


@pytest.mark.parametrize(
    ("frame", "check", "reason"),
    [
        (scores_without(model="bm25", task="STS"), "every_score", "1 of 8 scores .*: bm25 on STS"),
        (scores_without(model="untrained"), "every_score", "2 of 8 scores .*untrained on Retrieval, untrained on STS"),
        (
            scored("untrained", 0.71),
            "beats_untrained",
            r"a gain of -0.0100, at least \+0.0000 .*gain_over_untrained_min",
        ),
        (scored("seed_data only", 0.8), "beats_baselines", r"seed_data only 0.8000 on 2 tasks, a gain of -0.1000"),
        (scored("bm25", 0.9), "beats_baselines", r"bm25 0.9000 on 2 tasks"),
        (scored("bm25", float("nan")), "beats_baselines", r"a gain of \+?nan"),
        (scores_without(model="untrained"), "beats_untrained", "no common task"),
    ],
)
def test_scores_that_do_not_hold_up(shelf: Shelf, frame: pl.DataFrame, check: str, reason: str) -> None:
    artifact = shelf.table("mteb_scores", frame)
    found = next(c for c in checks_of("mteb_scores") if c.name == check)
    outcome = evaluate(found, Subject(artifact, RECIPE, None, shelf.store))
    assert not outcome.passed
    assert re.search(reason, outcome.reason), outcome.reason
    assert found.blocking == (check != "beats_baselines")


def test_notes_on_judgements_are_a_warning(shelf: Shelf) -> None:
    (check,) = (check for check in checks_of("mteb_scores") if check.name == "sound_judgements")
    assert not check.blocking
    assert shelf.ask(shelf.table("mteb_scores", good_table("mteb_scores", None)), check.name).passed
    noted = shelf.table("mteb_scores", good_table("mteb_scores", None), notes=["own, test: 1 document has no text"])
    outcome = shelf.ask(noted, check.name)
    assert not outcome.passed
    assert "own, test: 1 document has no text" in outcome.reason


def must_beat(*names: str) -> Recipe:
    return recipe_with(superior={"over": names})


def test_a_better_model_is_superior_and_the_table_shows_why(shelf: Shelf) -> None:
    artifact = shelf.table("mteb_scores", scored("bm25", 0.7))
    outcome = shelf.ask(artifact, "superior", must_beat("untrained", "seed_data"))
    assert outcome.passed
    assert "superior to untrained: +0.3000" in outcome.reason
    assert "not superior to bm25: +0.0000" in outcome.reason
    lines = outcome.metadata["table"]
    assert [(line["rival"], line["task"], line["verdict"]) for line in lines] == [
        (rival, task, word)
        for rival, word in (("untrained", "better"), ("seed_data only", "better"), ("bm25", "undecided"))
        for task in ("mean over tasks", "Retrieval", "STS")
    ]
    for line in lines:
        assert line["low"] <= line["difference"] <= line["high"]
        assert 0 < line["p"] <= line["p_adjusted"] <= 1
    refused = shelf.ask(artifact, "superior", must_beat("untrained", "bm25"))
    assert not refused.passed
    assert re.search(r"not superior to bm25: .*better on 0.*checks.superior.over", refused.reason)


def test_a_model_that_is_worse_on_one_task_is_not_superior(shelf: Shelf) -> None:
    frame = good_table("mteb_scores", None)
    planted = (pl.col("model") == "untrained") & (pl.col("task") == "STS")
    frame = frame.with_columns(score=pl.when(planted).then(0.8).otherwise("score"))
    outcome = shelf.ask(shelf.table("mteb_scores", frame), "superior", must_beat("untrained"))
    assert not outcome.passed
    assert "better on 1, worse on STS" in outcome.reason
    assert outcome.metadata["table"][0]["verdict"] == "better", "on the mean it is"


def test_scores_taken_otherwise_are_not_compared(shelf: Shelf) -> None:
    frame = good_table("mteb_scores", None)
    other = frame.with_columns(mteb=pl.when(pl.col("model") == "bm25").then(pl.lit("2")).otherwise("mteb"))
    outcome = shelf.ask(shelf.table("mteb_scores", other), "superior")
    assert not outcome.passed
    assert "embedding_model and bm25 differ in mteb on Retrieval" in outcome.reason
    lost = shelf.ask(shelf.table("mteb_scores", scored("bm25", float("nan"))), "superior")
    assert "bm25 on Retrieval has samples without a value" in lost.reason


def trained(score: float, reruns: int = 4, noise: float = 0.002) -> pl.DataFrame:
    """Good scores, with those of reruns next to the embedding model's own, spread around `score`."""
    frame = scored("embedding_model", score)
    own = frame.filter(model="embedding_model")
    others = [
        own.with_columns(model=pl.lit(f"embedding_model rerun {n}"), score=score + noise * (-1) ** n)
        for n in range(1, reruns + 1)
    ]
    return pl.concat([frame, *others])


def test_the_first_release_has_nothing_to_be_worse_than(shelf: Shelf) -> None:
    scores = shelf.table("mteb_scores", trained(0.7))
    assert "no release in this home" in shelf.ask(scores, "non_inferior").reason
    release = shelf.release(scores)
    again = shelf.ask(scores, "non_inferior")
    assert again.passed
    assert f"the scores of release {release.fingerprint[:12]}" in again.reason, "never judged against itself"


def test_a_loss_within_the_margin_passes_and_another_does_not(shelf: Shelf) -> None:
    shelf.release(shelf.table("mteb_scores", trained(0.7)))
    small = shelf.ask(shelf.table("mteb_scores", trained(0.695)), "non_inferior")
    assert small.passed, small.reason
    assert "no task may have lost more than its margin (closest: " in small.reason
    assert [(line["task"], line["verdict"], line["margin"]) for line in small.metadata["table"]] == [
        ("Retrieval", "no worse", 0.02),
        ("STS", "no worse", 0.02),
    ]
    assert small.metadata["table"][0]["seed_noise"] == pytest.approx(0.002 * (2 / 5) ** 0.5, rel=0.2)
    lost = shelf.ask(shelf.table("mteb_scores", trained(0.68)), "non_inferior")
    assert not lost.passed
    assert "2 of 2 tasks may have lost more than its margin (Retrieval -0.0200 [" in lost.reason
    wide = recipe_with(non_inferior={"margins": {"main": 0.05}})
    assert shelf.ask(shelf.table("mteb_scores", trained(0.68)), "non_inferior", wide).passed, (
        "a margin of the metric's own"
    )


def test_the_spread_between_seeds_is_part_of_the_test(shelf: Shelf) -> None:
    shelf.release(shelf.table("mteb_scores", trained(0.7, noise=0.03)))
    noisy = shelf.ask(shelf.table("mteb_scores", trained(0.701, noise=0.03)), "non_inferior")
    assert not noisy.passed, "what cannot be told from a loss is refused"
    assert "raise embedding_reruns.count" in noisy.reason
    single = Shelf(shelf.store.home.parent / "single")
    single.release(single.table("mteb_scores", trained(0.7, reruns=0)))
    alone = single.ask(single.table("mteb_scores", trained(0.699, reruns=0)), "non_inferior")
    assert alone.passed
    assert "what the seed does is unknown (embedding_reruns.count)" in alone.reason


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (pl.col("task") != "STS", "STS is missing"),
        (pl.lit("2").alias("transformers"), "transformers is 2 and was 1 on Retrieval and 1 other tasks"),
        (pl.lit("other").alias("dataset_revision"), "dataset_revision is other and was 1"),
        (pl.lit("other").alias("metric"), "metric is other and was main"),
        (pl.col("task").replace("STS", "Clustering"), "STS is missing; Clustering is new"),
    ],
)
def test_scores_taken_otherwise_than_the_last_releases_are_refused(shelf: Shelf, change: pl.Expr, reason: str) -> None:
    release = shelf.release(shelf.table("mteb_scores", trained(0.7)))
    frame = trained(0.71)
    filtering = frame.select(change).dtypes[0] == pl.Boolean
    other = frame.filter(change) if filtering else frame.with_columns(change)
    artifact = shelf.table("mteb_scores", other)
    outcome = shelf.ask(artifact, "non_inferior")
    assert not outcome.passed
    assert reason in outcome.reason
    waived = recipe_with(non_inferior={"waived": {release.fingerprint[:12]: "mteb was raised"}})
    told = shelf.ask(artifact, "non_inferior", waived)
    assert told.passed
    assert "mteb was raised" in told.reason


def test_a_damaged_release_is_not_compared_with(shelf: Shelf) -> None:
    release = shelf.release(shelf.table("mteb_scores", trained(0.7)))
    trained(0.1).write_parquet(release.path / "scores.parquet")
    outcome = shelf.ask(shelf.table("mteb_scores", trained(0.69)), "non_inferior")
    assert not outcome.passed
    assert "is damaged and cannot be compared with (scores.parquet has " in outcome.reason


def test_a_release_from_before_releases_held_their_scores_is_not_compared_with(shelf: Shelf) -> None:
    lineage = {"recipe": {"name": "tiny"}, "inputs": {}}
    with shelf.store.building("e" * 64) as work:
        shelf.store.seal("release", "e" * 64, work, partition=None, metadata={}, lineage=lineage)
    outcome = shelf.ask(shelf.table("mteb_scores", trained(0.7)), "non_inferior")
    assert outcome.passed
    assert "before releases held their scores" in outcome.reason


def test_the_release_in_use_is_what_is_compared_with(shelf: Shelf) -> None:
    old = shelf.release(shelf.table("mteb_scores", trained(0.7)))
    shelf.release(shelf.table("mteb_scores", trained(0.75)))
    new = shelf.table("mteb_scores", trained(0.71))
    assert not shelf.ask(new, "non_inferior").passed
    roll_back(shelf.store, "tiny")
    outcome = shelf.ask(new, "non_inferior")
    assert outcome.passed
    assert old.fingerprint[:12] in outcome.reason


def test_a_recipe_cannot_ask_to_beat_what_is_not_scored() -> None:
    with pytest.raises(ValueError, match=r"checks\.superior\.over names junior_data"):
        must_beat("junior_data")


def asks_gain(**settings: float) -> Recipe:
    checks = RECIPE.checks.model_copy(update={"own_evaluation": OwnGain.model_validate(settings)})
    return RECIPE.model_copy(update={"checks": checks})


def on_own_sets(*names: str) -> pl.DataFrame:
    frame = good_table("mteb_scores", None)
    return frame.with_columns(task=pl.col("task").replace(dict(zip(("Retrieval", "STS"), names, strict=False))))


def test_a_release_has_to_gain_on_the_users_own_set(shelf: Shelf) -> None:
    artifact = shelf.table("mteb_scores", on_own_sets("own_evaluation"))
    assert shelf.ask(artifact, "own_gain").reason.startswith("no gain on the user's own set is asked for")
    passed = shelf.ask(artifact, "own_gain", asks_gain(gain_min=0.2))
    assert passed.passed, passed.reason
    assert re.search(r"above \+0.2000 .*: own_evaluation \+0.3000 \(at least \+0.2", passed.reason)
    (line,) = passed.metadata["table"]
    assert (line["score"], line["untrained"], line["passed"]) == (0.7, 0.4, True)
    assert line["low"] < line["difference"] == 0.3
    for least in (0.3, 0.4):  # a gain of just that much is not shown to be more
        refused = shelf.ask(artifact, "own_gain", asks_gain(gain_min=least))
        assert not refused.passed
        assert "is not shown to be above" in refused.reason
        assert "train on more or better rows" in refused.reason


def test_every_own_set_has_to_pass(shelf: Shelf) -> None:
    frame = on_own_sets("own_evaluation", "own_queries")
    planted = (pl.col("model") == "untrained") & (pl.col("task") == "own_queries")
    artifact = shelf.table("mteb_scores", frame.with_columns(score=pl.when(planted).then(0.69).otherwise("score")))
    refused = shelf.ask(artifact, "own_gain", asks_gain(gain_min=0.1))
    assert not refused.passed
    assert "own_queries +0.0100" in refused.reason
    assert "own_evaluation" not in refused.reason.split("gain_min): ")[1].split(":")[0]
    for frame, message in (
        (good_table("mteb_scores", None), "the user's own set has no samples"),
        (on_own_sets("own_queries").filter(pl.col("model") != "untrained"), "set mteb_scores.untrained=true"),
    ):
        outcome = shelf.ask(shelf.table("mteb_scores", frame), "own_gain", asks_gain())
        assert not outcome.passed
        assert message in outcome.reason
    few = shelf.ask(artifact, "own_gain", asks_gain(alpha=0.001, resamples=200))
    assert "needs at least 1000 resamples" in few.reason
