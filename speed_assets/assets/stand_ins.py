"""Rows that replace, in a rehearsal, those that a model could not write.

A junior trained on eight rows writes no valid record, and a run that stopped there would not show whether judge, revisor,
filters and scores can be reached. So in a rehearsal, and nowhere else, the teacher's examples take the place of
invalid rows. They are marked, and counted as invalid.

Belongs here: what stands in for what. Not here: which recipe is a rehearsal (`speed_assets/orchestration/rehearse.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import polars as pl

from speed_assets.assets.stage_run import StageFunction, StageRun
from speed_assets.domain.candidates import with_candidate_ids
from speed_assets.domain.records import canonical_record, canonical_revision
from speed_assets.domain.row_languages import language_columns
from speed_assets.domain.task_types import TRIPLET_FIELDS

MARK = "stand-in"
FILE = "stand_ins.parquet"
"""Table (row_id, candidate) of the replacement rows, in the unhashed folder of an artifact; `candidate` is null where a row has none."""
_DATA, _QUARANTINE = "data", "quarantine"
_NEVER = ("not_whole", "contamination")
"""How reasons of final_triplets begin for which no row comes back, in a rehearsal either."""


def standing_in(function: StageFunction) -> StageFunction:
    """The function of a stage, with stand-ins in what it wrote; its metadata counts them as `stand_ins`."""

    @wraps(function)
    def stage(run: StageRun[Any]) -> dict[str, Any]:
        metadata = function(run)
        fill = None if run.stage.given else _FILLS.get(run.stage.name)
        return {**metadata, "stand_ins": fill(run)} if fill else metadata

    return stage


def _examples(run: StageRun[Any]) -> int:
    """For each invalid row of a generator an example of the teacher, under the prompt that was asked."""
    rows = run.tables[_DATA]
    if "seed_data" not in run.inputs:  # the junior is given, and writes without examples of the teacher
        return 0
    seeds = run.input("seed_data").table()
    broken = rows.filter(~pl.col("valid"))
    if broken.is_empty() or seeds.is_empty():
        return 0
    # Candidates of one prompt get different examples, or a judge would have nothing to choose from.
    taken = seeds[[number % seeds.height for number in range(broken.height)]]
    texts = [canonical_record(run.task_type, row) for row in taken.iter_rows(named=True)]
    filled = broken.with_columns(
        pl.Series("output", texts, dtype=pl.String),
        *(taken[field] for field in (*TRIPLET_FIELDS, *language_columns(taken))),
        valid=pl.lit(True),
        problem=pl.lit(None, pl.String),
    )
    key = ["row_id", "candidate"]
    valid = pl.concat([rows.filter("valid"), filled])
    _marked(run, broken)
    run.write(rows.select(key).join(valid, on=key, how="left", maintain_order="left").select(rows.columns))
    return broken.height


def _pairs(run: StageRun[Any]) -> int:
    """Where the judge left too few pairs, the first and the last candidate of prompts without one."""
    candidates = run.input("junior_data").table().filter("valid").sort("candidate")
    made = []
    for row_id in _wanting(run):
        group = candidates.filter(row_id=row_id)
        texts = [canonical_record(run.task_type, row) for row in group.iter_rows(named=True)]
        if texts and texts[0] != texts[-1]:
            # Nobody judged them: margin and verdicts are what readers of the table need, and `judge_model` is honest.
            pair = {"prompt": group["prompt"][0], "chosen": texts[0], "rejected": texts[-1], "judge_model": MARK}
            made.append({"row_id": row_id, "task_type": run.task_type, "margin": 1.0, "verdicts": 2, **pair})
    return _taken_out(run, made)


def _revisions(run: StageRun[Any]) -> int:
    """Where too few of the teacher's revisions can be read, one that leaves the draft as it is."""
    drafts = run.input("junior_data").table().filter("valid")
    made = []
    for row_id in _wanting(run):
        for row in drafts.filter(row_id=row_id).head(1).iter_rows(named=True):
            shown = f"{row['prompt']}\n\n{canonical_record(run.task_type, row)}"
            output = canonical_revision(f"{MARK}: nothing was read", {})
            made.append({"row_id": row_id, "task_type": run.task_type, "prompt": shown, "output": output})
    return _taken_out(run, [{**row, "mended": False} for row in made])


def _triplets(run: StageRun[Any]) -> int:
    """Where the filters left too few rows to train on, those that they rejected first."""
    rows, rejected = run.tables[_DATA], run.tables[_QUARANTINE]
    missing = run.recipe.rehearsal.rows - rows.height
    never = pl.any_horizontal(pl.col("reason").str.starts_with(how) for how in _NEVER)
    back = rejected.filter(~never).head(max(0, missing))
    source = with_candidate_ids(run.input_rows(run.stage.inputs[0]))
    found = source.filter(pl.col("row_id").is_in(back["row_id"].implode())).unique("row_id", maintain_order=True)
    return _taken_out(run, found.select(rows.columns).to_dicts())


def _wanting(run: StageRun[Any]) -> list[str]:
    """Ids of rejected rows, where there are fewer rows than a rehearsal needs."""
    missing = run.recipe.rehearsal.pairs - run.tables[_DATA].height
    return run.tables[_QUARANTINE]["row_id"].unique(maintain_order=True).to_list() if missing > 0 else []


def _taken_out(run: StageRun[Any], made: list[dict[str, Any]]) -> int:
    """Rows go from the quarantine into the table: a row is in one of the two."""
    if not made:
        return 0
    data, rejected = run.tables[_DATA], run.tables[_QUARANTINE]
    frame = pl.DataFrame([{name: row.get(name) for name in data.columns} for row in made], schema=data.schema)
    run.write(pl.concat([data, frame]))
    _marked(run, frame)
    run.write(rejected.filter(~pl.col("row_id").is_in(frame["row_id"].implode())), _QUARANTINE)
    return frame.height


def _marked(run: StageRun[Any], rows: pl.DataFrame) -> None:
    """Store which rows of the artifact are replacements."""
    candidate = pl.col("candidate") if "candidate" in rows.columns else pl.lit(None)
    rows.select("row_id", candidate.cast(pl.Int64).alias("candidate")).write_parquet(run.unhashed / FILE)


_FILLS: dict[str, Callable[[StageRun[Any]], int]] = {
    "junior_data": _examples,
    "senior_data": _examples,
    "preference_pairs": _pairs,
    "revision_data": _revisions,
    "final_triplets": _triplets,
}
