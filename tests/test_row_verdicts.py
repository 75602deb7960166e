"""The teacher reads a sample of the rows, and final_triplets goes by what it says: who is asked about, what is kept of it."""

from __future__ import annotations

import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import polars as pl
import pytest

from resources.ledger.calls import CallContext
from resources.ledger.ledger import Ledger
from resources.store.store import Store
from resources.teacher.teacher import Teacher
from speed_assets.assets.row_verdicts import row_verdicts
from speed_assets.assets.stage_run import StageRun
from speed_assets.assets.triplets import filtered, judged, plot_calibration
from speed_assets.domain.calibration import LikelyFaulty, Settings
from speed_assets.domain.graph import ALL_STAGES
from speed_assets.microworld.toy_records import TaskRequest, write_record
from speed_assets.recipe import Calibration, FinalTriplets
from tests.support.tiny import tiny_recipe

ROWS = 80
DOUBTED, NOT_WHOLE, RULE_BROKEN = range(0, 4), range(4, 8), range(8, 12)
WRONG = range(12, 32)
RATES = {"brainstorm": 0.0, "write": 0.0, "judge": 0.0, "revise": 0.0}


def table() -> pl.DataFrame:
    """Rows as revised_data holds them; some are in doubt, some not whole, some break a rule, some are wrong in meaning."""
    rng = random.Random(7)
    made: list[dict[str, Any]] = []
    for number in range(ROWS):
        topic = f"violins of kind {number}"
        asked = TaskRequest(topic, ("cost",))
        record = write_record("retrieval", asked, rng)
        if number in WRONG:
            record |= {"hard_negative_document": write_record("retrieval", asked, rng)["positive_document"]}
        query, positive, negative = record.values()
        made.append(
            {
                "row_id": f"r{number}",
                "task_type": "retrieval",
                "topic": topic,
                "task": f"cost of {topic}",
                "prompt": f"write a row about the cost of {topic}",
                "output": "",
                "query": "I'm sorry, but I cannot help with that." if number in RULE_BROKEN else query,
                "positive": positive,
                "negative": negative,
                "valid": number not in NOT_WHOLE,
                "doubt": "off" if number in DOUBTED else None,
            }
        )
    return pl.DataFrame(made, schema_overrides={"doubt": pl.String})


def scores(rows: pl.DataFrame) -> pl.DataFrame:
    draw = random.Random(3)
    wrong = [number in WRONG for number in range(rows.height)]
    return rows.select("row_id", "task_type").with_columns(
        least_likely=pl.Series([-3 - draw.random() for _ in wrong]),
        swapped=pl.Series([-(1 if bad else 8) - draw.random() for bad in wrong]),
        role=pl.lit(1.0),
        margin=pl.lit(None, pl.Float64),
    )


def stage_run(home: Path, rows: pl.DataFrame, of_type: pl.DataFrame | None = None, **changes: Any) -> StageRun[Any]:
    recipe = tiny_recipe(teacher__error_rates=RATES, **changes)
    (stage,) = (stage for stage in ALL_STAGES if stage.name == "row_verdicts")
    found = scores(rows) if of_type is None else of_type
    other = found.head(3).with_columns(task_type=pl.lit("sts"))
    out = home / "out"
    out.mkdir(parents=True)

    def artifact(frame: pl.DataFrame) -> Any:
        return cast(Any, SimpleNamespace(table=lambda: frame))

    return StageRun.of(
        recipe,
        stage,
        "retrieval",
        inputs={
            "revised_data": {"retrieval": artifact(rows)},
            "row_scores": {None: artifact(pl.concat([found, other]))},
        },
        out=out,
        store=Store(home),
        runner=cast(Any, None),
        teacher=Teacher(recipe, Ledger.at(home)),
        context=CallContext("run", "row_verdicts", "retrieval"),
        progress=lambda *_: None,
    )


def test_the_teacher_reads_rows_that_nothing_else_removes_and_tells_which_are_faulty(tmp_path: Path) -> None:
    rows = table()
    run = stage_run(tmp_path, rows, row_verdicts__rows__retrieval=200, row_verdicts__rules={})
    told = row_verdicts(run)
    data = run.tables["data"]
    assert told["asked"] == told["drawn_from"] == ROWS - 12 == data.height, "all of them, once"
    assert set(data["weight"]) == {1.0}
    asked = {int(row_id[1:]) for row_id in data["row_id"]}
    assert not asked & {*DOUBTED, *NOT_WHOLE, *RULE_BROKEN}
    assert data["place"].to_list() == [int(row_id[1:]) for row_id in data["row_id"]]
    assert set(data.filter("faulty")["place"]) == set(WRONG)
    assert told["faulty_share"] == pytest.approx(len(WRONG) / (ROWS - 12), abs=1e-4)
    assert run.tables["quarantine"].is_empty()


def test_a_sample_is_counted_paid_and_drawn_by_a_named_seed(tmp_path: Path) -> None:
    first = stage_run(tmp_path / "one", table(), row_verdicts__rows__retrieval=20)
    told = row_verdicts(first)
    assert abs(told["asked"] - 20) <= 1
    assert told["teacher_calls"] == told["asked"]
    assert first.tables["data"]["weight"].sum() == pytest.approx(told["drawn_from"], rel=0.5)
    again = stage_run(tmp_path / "two", table(), row_verdicts__rows__retrieval=20)
    row_verdicts(again)
    assert again.tables["data"].equals(first.tables["data"])
    other = stage_run(tmp_path / "three", table(), row_verdicts__rows__retrieval=20, seed=2)
    row_verdicts(other)
    assert set(other.tables["data"]["row_id"]) != set(first.tables["data"]["row_id"])


def test_an_answer_that_cannot_be_read_is_no_verdict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = stage_run(tmp_path, table(), row_verdicts__rows__retrieval=20)
    monkeypatch.setattr(
        run,
        "ask",
        lambda texts, *_args, **_kwargs: (
            [SimpleNamespace(text="no idea", finished=True, error=None) for _ in texts],
            SimpleNamespace(metadata=dict),
        ),
    )
    told = row_verdicts(run)
    assert run.tables["data"].is_empty()
    assert run.tables["quarantine"].height == told["asked"] > 0
    assert (told["faulty"], told["faulty_share"]) == (0, None)


def test_scores_of_other_rows_are_refused(tmp_path: Path) -> None:
    rows = table()
    with pytest.raises(ValueError, match="materialize row_scores again"):
        row_verdicts(stage_run(tmp_path, rows, scores(rows).reverse()))


def test_verdicts_reach_the_funnel_and_the_plot(tmp_path: Path) -> None:
    rows = table()
    run = stage_run(tmp_path, rows, row_verdicts__rows__retrieval=40)
    row_verdicts(run)
    verdicts = run.tables["data"].with_columns(row_id=pl.lit("another name"))
    known = judged(rows.hstack(scores(rows).select("least_likely", "swapped", "role", "margin")), verdicts)
    assert known["faulty"].count() == verdicts.height
    assert known["row_id"].equals(rows["row_id"])
    finder = LikelyFaulty(Settings(**Calibration().model_dump()), 1)
    funnel = filtered(known, FinalTriplets(), {}, 1, likely_faulty=finder)
    removed = dict(
        funnel.quarantine.filter(pl.col("reason") == "negative_answers").select("row_id", "detail").iter_rows()
    )
    assert set(removed) == {f"r{number}" for number in WRONG}
    assert all(detail.endswith("likely faulty") for detail in removed.values())
    assert finder.summary["scores"].keys() == {"swapped"}
    assert finder.summary["good_lost"]["share"] == 0
    plot_calibration(finder, tmp_path / "calibration.png")
    plot_calibration(LikelyFaulty(Settings(**Calibration().model_dump()), 1), tmp_path / "empty.png")
    assert 1000 < (tmp_path / "calibration.png").stat().st_size < 60_000


def test_rows_let_back_in_pass_the_fit_too(tmp_path: Path) -> None:
    rows = table()
    run = stage_run(tmp_path, rows, row_verdicts__rows__retrieval=40)
    row_verdicts(run)
    known = judged(rows.hstack(scores(rows).select("least_likely", "swapped", "role", "margin")), run.tables["data"])
    section = FinalTriplets(readmit=[{"reason": "negative_answers"}])  # type: ignore[list-item]
    finder = LikelyFaulty(Settings(**Calibration().model_dump()), 1)
    funnel = filtered(known, section, {}, 1, likely_faulty=finder)
    (step,) = (step for step in funnel.steps if step.step == "likely_faulty")
    assert (step.removed, step.readmitted) == (0, len(WRONG))
