"""Bounds of scores by verdicts on the run's own rows: they find what can be told, cost what they say, or keep out."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import settings as budget
from hypothesis import strategies as st

from speed_assets.domain.calibration import (
    CalibratedRows,
    LikelyFaulty,
    Settings,
    calibrate,
    distances_from_median,
    draw_rows_to_judge,
    suspicion,
)
from speed_assets.recipe import Calibration

SETTINGS = Settings(**Calibration().model_dump())
TYPES = ("retrieval", "sts")


def made(seed: int, rows: int = 1500, faulty: float = 0.1, tells: float = 6.0) -> pl.DataFrame:
    """Rows of two task types whose `least_likely` is lower by `tells` where they are faulty (`truth`), in units of their own;
    `role` says nothing of it, `swapped` is not known, and `margin` is the same for all."""
    draws = np.random.default_rng(seed)
    wrong = draws.random(rows) < faulty
    unit = np.where(np.arange(rows) % 2 == 0, 1.0, 10.0)
    return pl.DataFrame(
        {
            "task_type": [TYPES[row % 2] for row in range(rows)],
            "least_likely": -unit * (3 + np.abs(draws.normal(size=rows)) + tells * wrong * draws.random(rows)),
            "swapped": pl.Series([None] * rows, dtype=pl.Float64),
            "role": draws.random(rows),
            "margin": 1.0,
            "truth": wrong,
        }
    ).with_row_index("place")


def judged(rows: pl.DataFrame, seed: int, count: int = 250) -> pl.DataFrame:
    """The rows with the verdicts of a teacher that does not err on a sample of each task type."""
    asked = pl.concat(
        draw_rows_to_judge(group, suspicion(group), count // 2, 0.7, seed + place)
        for place, (_, group) in enumerate(rows.group_by("task_type", maintain_order=True))
    )
    return rows.join(asked.select("place", "weight", faulty="truth"), on="place", how="left", maintain_order="left")


def aside(found: CalibratedRows) -> np.ndarray:
    return np.array([reader is not None for reader in found.strongest_score])


# The sample


@given(seed=st.integers(0, 10_000), count=st.integers(1, 400), share=st.floats(0, 1))
@budget(deadline=None, max_examples=40)
def test_a_sample_has_its_size_and_stands_for_all_rows(seed: int, count: int, share: float) -> None:
    rows = made(seed, 300)
    sample = draw_rows_to_judge(rows, suspicion(rows), count, share, seed)
    assert abs(sample.height - min(count, rows.height)) <= 1
    assert sample["place"].is_unique().all()
    assert sample["weight"].min() >= 1.0  # type: ignore[operator]
    assert sample.equals(draw_rows_to_judge(rows, suspicion(rows), count, share, seed)), "a seed draws one sample"


def test_suspicious_rows_are_drawn_more_often_and_the_weights_make_up_for_it() -> None:
    rows = made(1, 2000)
    samples = [draw_rows_to_judge(rows, suspicion(rows), 200, 0.7, seed) for seed in range(60)]
    drawn_faulty = np.mean([sample["truth"].mean() for sample in samples])
    told = np.mean([(sample["truth"] * sample["weight"]).sum() for sample in samples])
    assert drawn_faulty > 1.5 * rows["truth"].mean()  # type: ignore[operator]
    assert told == pytest.approx(rows["truth"].sum(), rel=0.1)


def test_rows_of_which_no_score_is_known_are_drawn_evenly() -> None:
    nothing = made(1, 100).with_columns(
        pl.lit(None, pl.Float64).alias(name) for name in ("least_likely", "role", "margin")
    )
    assert set(suspicion(nothing)) == {1.0}
    assert set(draw_rows_to_judge(nothing, suspicion(nothing), 20, 0.7, 1)["weight"].round(6)) == {5.0}


# The bound


@pytest.mark.parametrize("seed", range(5))
def test_faulty_rows_are_rejected_in_the_units_of_their_task_type(seed: int) -> None:
    rows = judged(made(seed), seed)
    found = calibrate(rows, SETTINGS, seed)
    gone, wrong = aside(found), rows["truth"].to_numpy()
    assert set(found.summary["scores"]) == {"least_likely"}, "the only one that tells"
    assert found.summary["off"] == {
        "swapped": "says nothing of these rows",
        "role": "does not tell faulty rows from others",
        "margin": "says nothing of these rows",
    }
    for task_type in TYPES:
        of_type = (rows["task_type"] == task_type).to_numpy()
        assert (gone & wrong & of_type).sum() > 0.5 * (wrong & of_type).sum()
    assert (gone & ~wrong).sum() < 0.08 * (~wrong).sum()
    assert found.summary["rejected"] == gone.sum()
    assert set(found.strongest_score) == {None, "least_likely"}


@given(seed=st.integers(0, 1000))
@budget(deadline=None, max_examples=15)
def test_asking_more_certainty_or_less_loss_sets_fewer_rows_aside(seed: int) -> None:
    rows = judged(made(seed, 800), seed)

    def gone(**changes: float) -> np.ndarray:
        return aside(calibrate(rows, replace(SETTINGS, **changes), seed))

    def falls(*found: np.ndarray) -> bool:
        return all(bool((less <= more).all()) for more, less in pairwise(found))

    assert falls(*(gone(wrong_min=share) for share in (0.1, 0.25, 0.5, 0.9)))
    assert falls(*(gone(loss_max=share, loss_per_faulty=0.0) for share in (1.0, 0.1, 0.03, 0.0)))
    assert falls(*(gone(loss_max=0.0, loss_per_faulty=per) for per in (1.0, 0.5, 0.1, 0.0)))
    assert falls(*(gone(odds_min=times) for times in (1.0, 4.0, 20.0)))


def test_a_worse_score_never_speaks_for_a_row() -> None:
    rows = judged(made(3), 3)
    likely = calibrate(rows, SETTINGS, 3).likelihood
    for task_type in TYPES:
        of_type = rows.with_columns(likely=pl.Series(likely)).filter(task_type=task_type).sort("least_likely")
        assert (np.diff(of_type["likely"].to_numpy()) <= 1e-12).all()


def test_what_is_reported_lost_is_what_is_lost() -> None:
    """Of 60 runs, at most 5 % lose more than the interval says, give or take what chance allows."""
    more, shares = 0, []
    for seed in range(60):
        rows = judged(made(seed, faulty=0.15, tells=3.0), seed)
        found = calibrate(rows, SETTINGS, seed)
        good = ~rows["truth"].to_numpy()
        lost = float(aside(found)[good].mean())
        told = found.summary["good_lost"]
        faulty = found.summary["faulty_share"]["share"]
        assert told["share"] <= max(SETTINGS.loss_max, SETTINGS.loss_per_faulty * faulty) + 1e-4
        more += lost > told["interval"][1]
        shares.append((lost, told["share"]))
    lost_mean, told_mean = np.mean(shares, axis=0)
    assert more <= 6
    assert lost_mean == pytest.approx(told_mean, abs=0.01)


def test_scores_that_tell_nothing_set_nothing_aside_and_it_is_said() -> None:
    gone, said = [], set()
    for seed in range(60):
        rows = judged(made(seed, tells=0.0), seed)
        found = calibrate(rows, SETTINGS, seed)
        gone.append(aside(found).mean())
        said.add(found.summary.get("switched_off"))
    assert np.mean(np.array(gone) > 0) <= 0.1
    assert max(gone) < 0.1
    assert "no score tells faulty rows from others" in said


def test_a_score_that_tells_the_wrong_way_round_is_off() -> None:
    rows = made(1).with_columns(least_likely=-20 / -pl.col("least_likely"))
    found = calibrate(judged(rows, 1), SETTINGS, 1)
    assert not aside(found).any()
    assert found.summary["off"]["least_likely"] == "does not tell faulty rows from others"


def test_a_teacher_that_would_mend_half_of_the_rows_does_not_have_them_all_rejected() -> None:
    rows = made(1)
    picky = np.random.default_rng(1).random(rows.height) < 0.5
    found = calibrate(judged(rows.with_columns(truth=pl.col("truth") | pl.Series(picky)), 1), SETTINGS, 1)
    gone, wrong = aside(found), rows["truth"].to_numpy()
    assert gone.mean() < 0.2
    assert gone[wrong].mean() > 3 * gone[~wrong].mean()


def test_a_task_type_of_which_no_row_was_judged_goes_by_the_others() -> None:
    rows = judged(made(2), 2).with_columns(faulty=pl.when(task_type="retrieval").then("faulty"))
    found = calibrate(rows, SETTINGS, 2)
    gone, wrong = aside(found), rows["truth"].to_numpy()
    unjudged = (rows["task_type"] == "sts").to_numpy()
    assert gone[unjudged & wrong].mean() > 0.4
    assert gone[unjudged & ~wrong].mean() < 0.1


@pytest.mark.parametrize(
    ("verdict", "why"),
    [
        (None, "the teacher has judged none of these rows"),
        (True, "the teacher found every row faulty"),
        (False, "the teacher found no row faulty"),
    ],
)
def test_verdicts_that_tell_nothing_switch_off(verdict: bool | None, why: str) -> None:
    rows = made(1, 60).with_columns(faulty=pl.lit(verdict, pl.Boolean), weight=pl.lit(1.0))
    found = calibrate(rows, SETTINGS, 1)
    assert not aside(found).any()
    assert found.summary["switched_off"] == why


def test_the_same_rows_have_the_same_bound_in_any_number_of_readings() -> None:
    rows = judged(made(4), 4)
    one, two = calibrate(rows, SETTINGS, 1), calibrate(rows, SETTINGS, 1)
    assert one.summary == two.summary
    assert one.strongest_score == two.strongest_score
    assert (one.likelihood == two.likelihood).all()


def test_a_finder_tells_the_score_and_how_likely() -> None:
    rows = judged(made(5), 5)
    finder = LikelyFaulty(SETTINGS, 1)
    assert finder.summary == {"bound": None, "switched_off": "no row came so far"}
    found = finder(rows)
    assert set(found["reason"]) == {None, "unlikely"}
    assert found["reason"].is_null().equals(found["detail"].is_null())
    assert finder.summary["rejected"] == found["reason"].count() > 0


def test_standing_is_in_spreads_of_the_good_end() -> None:
    values = [-1.0, -2.0, -3.0, -4.0, -50.0]
    rows: dict[str, Any] = {name: pl.Series([None] * 5, dtype=pl.Float64) for name in ("swapped", "role", "margin")}
    found = distances_from_median(pl.DataFrame({"task_type": ["sts"] * 5, "least_likely": values, **rows}))
    assert found[2, 0] == 0
    assert found[4, 0] == 8.0, "cut off"
    assert found[0, 0] < found[1, 0] < 0 < found[3, 0]
    assert not found[:, 1:].any()
