"""Rows through a row of filters: what each step takes out, in which time, with every row accounted for.

Belongs here: counting and setting aside. Not here: any filter.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass

import polars as pl

from speed_assets.domain.rows import no_quarantine, quarantined

Finder = Callable[[pl.DataFrame], pl.DataFrame]
"""From rows to (reason, detail) of each of them, in their order; no reason lets the row pass."""


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a funnel. rows_in = rows_out + removed."""

    step: str
    rows_in: int
    rows_out: int
    removed: int
    seconds: float
    rows_per_s: int


class Funnel:
    """Rows on their way through the filters of a stage."""

    def __init__(self, rows: pl.DataFrame, stage: str) -> None:
        self.rows = rows
        self.steps: list[Step] = []
        self._stage = stage
        self._removed: list[pl.DataFrame] = [no_quarantine()]

    def step(self, name: str, find: Finder, raw: pl.Expr) -> None:
        """Set aside the rows that `find` gives a reason for, with the text of `raw`."""
        started = time.perf_counter()
        found = find(self.rows) if self.rows.height else pl.DataFrame(schema={"reason": pl.String, "detail": pl.String})
        if found.height != self.rows.height:
            raise ValueError(f"{name} answered for {found.height} of {self.rows.height} rows")
        gone = found["reason"].is_not_null()
        marked = self.rows.filter(gone).hstack(found.filter(gone).rename({"reason": "_reason", "detail": "_detail"}))
        self._removed.append(quarantined(marked, self._stage, None, pl.col("_reason"), pl.col("_detail"), raw))
        before = self.rows.height
        self.rows = self.rows.filter(~gone)
        seconds = time.perf_counter() - started
        rate = round(before / seconds) if seconds else 0
        self.steps.append(Step(name, before, self.rows.height, before - self.rows.height, round(seconds, 3), rate))

    @property
    def quarantine(self) -> pl.DataFrame:
        """All rows that were set aside."""
        return pl.concat(self._removed)

    def table(self) -> list[Mapping[str, object]]:
        """The steps as plain values."""
        return [asdict(step) for step in self.steps]
