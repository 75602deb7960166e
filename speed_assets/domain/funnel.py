"""Rows pass one filter after another: how many each step quarantines, and how long it takes.

Belongs here: counts, quarantined rows, and rules that readmit rows. Not here: any filter.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass

import polars as pl

from speed_assets.domain.rows import empty_quarantine, quarantined

Finder = Callable[[pl.DataFrame], pl.DataFrame]
"""From rows to (reason, detail) of each of them, in their order; no reason lets the row pass."""


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a funnel. rows_in = rows_out + removed; `readmitted` counts rows of rows_out that were found but readmitted."""

    step: str
    rows_in: int
    rows_out: int
    removed: int
    readmitted: int
    seconds: float
    rows_per_s: int


@dataclass(frozen=True, slots=True)
class Readmission:
    """Rows that a filter found for this reason pass nevertheless: of a task type and of these ids; None means any."""

    reason: str
    task_type: str | None = None
    row_ids: Sequence[str] | None = None

    def applies(self) -> pl.Expr:
        """Whether it lets a row (row_id, task_type) with a found `reason` pass."""
        applies = pl.col("reason").eq_missing(pl.lit(self.reason))
        if self.task_type is not None:
            applies &= pl.col("task_type").eq_missing(pl.lit(self.task_type))
        if self.row_ids is not None:
            applies &= pl.col("row_id").is_in(list(self.row_ids))
        return applies


class Funnel:
    """Rows on their way through the filters of a stage."""

    def __init__(
        self, rows: pl.DataFrame, stage: str, readmissions: Sequence[Readmission] = (), *, clock: Callable[[], float]
    ) -> None:
        """A funnel that holds all rows.

        Args:
            rows: row_id, task_type and what the filters read.
            stage: The stage that quarantines.
            readmissions: Rules that let rows pass although a filter found them.
            clock: Seconds from any origin, for the time of each step.
        """
        self.rows = rows
        self.steps: list[Step] = []
        self._stage = stage
        self._clock = clock
        self._readmissions = readmissions
        self._removed: list[pl.DataFrame] = [empty_quarantine()]

    def step(self, name: str, find: Finder, raw: pl.Expr) -> None:
        """Quarantine the rows for which `find` gives a reason, unless a rule readmits them.

        Args:
            name: Of the step.
            find: The filter.
            raw: The text that the quarantine keeps of a row.

        Raises:
            ValueError: The filter returned another number of rows.
        """
        started = self._clock()
        found = find(self.rows) if self.rows.height else pl.DataFrame(schema={"reason": pl.String, "detail": pl.String})
        if found.height != self.rows.height:
            raise ValueError(f"{name} returned {found.height} reasons for {self.rows.height} rows")
        readmitted = self._readmitted(found["reason"])
        gone = found["reason"].is_not_null() & ~readmitted
        marked = self.rows.filter(gone).hstack(found.filter(gone).rename({"reason": "_reason", "detail": "_detail"}))
        self._removed.append(quarantined(marked, self._stage, None, pl.col("_reason"), pl.col("_detail"), raw))
        before = self.rows.height
        self.rows = self.rows.filter(~gone)
        seconds = self._clock() - started
        rate = round(before / seconds) if seconds else 0
        removed = before - self.rows.height
        self.steps.append(Step(name, before, self.rows.height, removed, int(readmitted.sum()), round(seconds, 3), rate))

    def _readmitted(self, reasons: pl.Series) -> pl.Series:
        """Whether each row passes although it was found for this reason."""
        if not self._readmissions:
            return pl.repeat(False, self.rows.height, dtype=pl.Boolean, eager=True)
        asked = self.rows.select("row_id", "task_type", reasons.alias("reason"))
        return asked.select(pl.any_horizontal(rule.applies() for rule in self._readmissions)).to_series()

    @property
    def quarantine(self) -> pl.DataFrame:
        """All quarantined rows (row_id, stage, task_type, reason, detail, raw)."""
        return pl.concat(self._removed)

    def table(self) -> list[Mapping[str, object]]:
        """The steps as plain values."""
        return [asdict(step) for step in self.steps]
