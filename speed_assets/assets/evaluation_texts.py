"""The texts of the mteb tasks that the model will be scored on: read at the start of a run, before anything is paid.

A task whose data cannot be had ends the run here, and not after the rows are written. `row_scores` and `final_triplets`
look for the texts in the rows. The microworld's texts and those of folders are at hand (`resources/inputs/evaluation_sets.py`).
"""

from __future__ import annotations

from typing import Any

from speed_assets.assets.stage_run import StageRun


def evaluation_texts(run: StageRun[None]) -> dict[str, Any]:
    """The table (task, text), written in blocks by the worker and never read here."""
    from speed_assets.workers import jobs  # its classes take a while, and definitions load without them

    section = run.recipe.evaluation
    run.scratch.mkdir(parents=True, exist_ok=True)
    found = run.runner.run(
        "task_texts",
        jobs.TaskTexts(
            tasks=section.searched, left_out=section.unsearched, out=str(run.out / "data.parquet")
        ).to_json(),
        run.scratch / "task_texts",
        run.progress,
    )
    return {"rows": found["texts"], "texts_of": found["tasks"], "unread_splits": found["unread"]}
