"""The journal of a generation: each output on disk as soon as it arrives, and the rows in flight when an engine died.

Two files. `NAME.rows.jsonl` holds one finished row a line; a last line that a kill has torn is cut off when the
journal is opened. `NAME.events.jsonl` records which rows were begun, and at each crash which of them were not finished.
Lines are handed to the system as they are written, so they survive this process, though not a power failure.

A row that may have killed the engine is a suspect. Suspects run in small groups, and alone when fewer than `FEW` were
under way. A row that was under way at two crashes in a row, alone at the second, is poisonous: it is finished without
an output, and the job continues. Only crashes that the caller has seen count, so a run that is killed harms no row.

Belongs here: reading the rows of a job and remembering their outputs. Not here: making them, and nothing that an engine's environment may lack.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import polars as pl

from speed_assets.workers.jobs import Generate

FEW = 16
"""Suspects that run together; so few under way at a crash run alone the next time (our choice: with 256 rows
under way, the poisonous one is found after three crashes)."""


@dataclass(frozen=True, slots=True)
class Output:
    """What became of the row at `position` of the job's table."""

    position: int
    output: str
    prompt_tokens: int
    output_tokens: int
    """The end token counts."""
    finished: bool
    """The end token was reached."""
    error: str | None = None
    """Why there is no output, where the engine or a server gave none."""


LIMIT = "max_new_tokens"
"""Column of a job's table, and parameter of the job: the most tokens of an output."""


def asked(job: Generate) -> pl.DataFrame:
    """The rows of a job (row_id, candidate, prompt, max_new_tokens) from its table `prompts`.

    A row's own limit, where the table has that column and it is not null, counts before the job's.
    """
    rows = pl.read_parquet(job.prompts)
    own = pl.col(LIMIT) if LIMIT in rows.columns else pl.lit(None)
    return rows.select(
        "row_id",
        pl.col("candidate").cast(pl.Int64),
        "prompt",
        pl.coalesce(own.cast(pl.Int64), pl.lit(job.max_new_tokens, pl.Int64)).alias(LIMIT),
    )


SCHEMA = {
    "position": pl.Int64,
    "output": pl.String,
    "prompt_tokens": pl.Int64,
    "output_tokens": pl.Int64,
    "finished": pl.Boolean,
    "error": pl.String,
}


class Journal:
    """The journal `name` in `folder`, opened to resume. `crash` states how the engine died when the caller saw it die."""

    def __init__(self, folder: Path, name: str, crash: str | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._rows, self._events = folder / f"{name}.rows.jsonl", folder / f"{name}.events.jsonl"
        self.done = {int(row["position"]) for row in _complete_lines(self._rows, _is_output)}
        """Positions of the rows that are finished."""
        self._company: dict[int, int] = {}  # suspect -> fewest rows that were under way with it at a crash
        begun: set[int] = set()
        before: set[int] = set()  # under way at the crash before
        poisonous: set[int] = set()
        for event in [*_complete_lines(self._events, _is_event), *([{"crash": crash}] if crash else [])]:
            if "begin" in event:
                begun.update(event["begin"])
            elif "crash" in event:
                under_way = set(event.get("under_way", begun - self.done))
                event["under_way"] = sorted(under_way)
                for row in under_way:
                    self._company[row] = min(len(under_way), self._company.get(row, len(under_way)))
                if len(under_way) == 1:
                    poisonous |= under_way & before
                before, begun = under_way, set()
            else:
                begun = set()
        self._rows_file, self._events_file = self._rows.open("ab", buffering=0), self._events.open("ab", buffering=0)
        if crash:
            _append(self._events_file, [{"crash": crash, "under_way": sorted(before)}])
        _append(self._events_file, [{"start": os.getpid()}])
        self.finish(
            Output(row, "", 0, 0, False, f"the engine died twice on this row: {crash}")
            for row in sorted(poisonous - self.done)
        )

    def groups(self, rows: int) -> list[list[int]]:
        """The positions below `rows` that are left to do, in the order to do them: groups of suspects, then the rest."""
        left = [row for row in range(rows) if row not in self.done]
        alone = [[row] for row in left if self._company.get(row, FEW + 1) <= FEW]
        suspects = [row for row in left if self._company.get(row, 0) > FEW]
        together = [suspects[start : start + FEW] for start in range(0, len(suspects), FEW)]
        rest = [row for row in left if row not in self._company]
        return [*alone, *together, *([rest] if rest else [])]

    def begin(self, positions: Iterable[int]) -> None:
        """Record, before an engine gets them, that these rows are under way."""
        _append(self._events_file, [{"begin": list(positions)}])

    def finish(self, outputs: Iterable[Output]) -> None:
        """Keep finished rows."""
        outputs = list(outputs)
        _append(self._rows_file, [asdict(output) for output in outputs])
        self.done.update(output.position for output in outputs)

    def table(self) -> pl.DataFrame:
        """All finished rows, in order: the columns of `SCHEMA`."""
        if not self.done:
            return pl.DataFrame(schema=SCHEMA)
        return pl.read_ndjson(self._rows, schema=SCHEMA).sort("position")

    def close(self) -> None:
        """Close its files."""
        self._rows_file.close()
        self._events_file.close()


def _append(file: Any, records: list[dict[str, Any]]) -> None:
    if records:
        data = memoryview(b"".join(map(_line, records)))
        while data:  # an unbuffered file may take less than all of it
            data = data[file.write(data) :]


def _line(record: Any) -> bytes:
    return (json.dumps(record, ensure_ascii=False) + "\n").encode("utf-8", "replace")


def _complete_lines(path: Path, accepted: Callable[[Any], bool]) -> list[dict[str, Any]]:
    """The records of a file whose last line may be torn; it is cut off from the first line on that is no record.

    A record is a line as `_append` writes it, byte for byte: of a key that occurs twice, or a number beyond all bounds,
    another reader of the same line (`Journal.table`) may make something else.
    """
    if not path.exists():
        return []
    with path.open("r+b") as file:
        records: list[dict[str, Any]] = []
        complete = 0
        record: Any
        for line in file:
            try:
                record = json.loads(line) if line.endswith(b"\n") else None
            except (ValueError, RecursionError):
                break
            if not accepted(record) or _line(record) != line:
                break
            records.append(record)
            complete += len(line)
        file.truncate(complete)
    return records


def _is_output(value: Any) -> bool:
    """Whether a value is an `Output` as JSON."""
    if not isinstance(value, dict) or value.keys() != SCHEMA.keys() or not isinstance(value["error"], str | None):
        return False
    numbers = [value.get(name) for name in ("position", "prompt_tokens", "output_tokens")]
    return (
        all(type(number) is int and 0 <= number < 1 << 63 for number in numbers)
        and isinstance(value.get("output"), str)
        and isinstance(value.get("finished"), bool)
    )


def _is_event(value: Any) -> bool:
    """Whether a value is an event: positions that were begun or under way, a crash, or a start."""
    if not isinstance(value, dict):
        return False
    positions = [value.get("begin", []), value.get("under_way", [])]
    return all(isinstance(listed, list) and all(type(row) is int for row in listed) for listed in positions)
