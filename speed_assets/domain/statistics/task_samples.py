"""The samples that a score is made of: of one model, task and part of a task.

Belongs here: the value `Part` and reading a table of samples. Not here: any statistic of them (`weighted.py`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Part:
    """The samples of one model in one part of a task (a split and subset), in the same order for every model.

    `score` for `mean` and `replicates`; `predicted` and `gold` for the others. `replicates` are scores that are each
    a draw of their own already, as mteb's repeated clusterings of texts drawn with replacement.
    """

    statistic: str
    names: tuple[str, ...]
    score: Array | None = None
    predicted: Array | None = None
    gold: Array | None = None


TaskSamples = Mapping[str, Part]
"""By part. The task's score is the mean over its parts."""


def samples_by_model(frame: pl.DataFrame) -> dict[str, dict[str, TaskSamples]]:
    """Read a table `samples` (see `workers/samples.py`).

    Returns:
        {model: {task: samples}}.

    Raises:
        ValueError: A sample has no value.
    """
    found: dict[str, dict[str, dict[str, Part]]] = {}
    for (model, task, part), rows in frame.group_by("model", "task", "part", maintain_order=True):
        statistic = rows["statistic"][0]
        columns = ("score",) if statistic in ("mean", "replicates") else ("predicted", "gold")
        values = {column: rows[column].cast(pl.Float64).fill_null(math.nan).to_numpy() for column in columns}
        if any(not np.isfinite(column).all() for column in values.values()):
            raise ValueError(f"{model} on {task} has samples without a value: score it again")
        kept = Part(statistic, tuple(rows["sample"]), **values)
        found.setdefault(str(model), {}).setdefault(str(task), {})[str(part)] = kept
    return {model: dict(tasks) for model, tasks in found.items()}
