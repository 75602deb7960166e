"""What the ledger tells: costs, sizes, single calls, the whole of it as JSON lines; and taking answers out of it.

Belongs here: reading the ledger for people, and pruning. Not here: printing (`speed_assets/cli.py`).
"""

from __future__ import annotations

import json
import os
import time
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from resources.ledger.database import CALLS, RESERVATIONS, UNKEPT, Database, LedgerError, key_blocks
from resources.ledger.ledger import Ledger
from resources.ledger.prices import in_currency

COST_DIMENSIONS = ("asset", "partition", "model", "day", "run")
_TOLD_BY = {"stage": "asset", "partition": "partition", "model": "model", "run": "run"}
_STREAM_ROWS = 500
_MONEY_COLUMNS = [c.name for c in UNKEPT.columns if c.name not in ("id", "why")]


@dataclass(frozen=True, slots=True)
class Spending:
    """What some calls took together. None is unknown: a sum with one unknown part is unknown.

    `known` holds the money of the calls whose cost is known, by currency, in 10^-9.
    """

    calls: int
    prompt_tokens: int | None
    output_tokens: int | None
    unpriced: int
    known_money: Mapping[str, int]
    prices: tuple[str, ...]

    @property
    def money(self) -> int | None:
        """10^-9 of the one currency; None when a call's cost is unknown, or when there are several currencies."""
        return None if self.unpriced or len(self.known_money) > 1 else sum(self.known_money.values())

    @property
    def currency(self) -> str | None:
        return next(iter(self.known_money)) if len(self.known_money) == 1 else None

    def __add__(self, other: Spending) -> Spending:
        def both(one: int | None, two: int | None) -> int | None:
            return None if one is None or two is None else one + two

        return Spending(
            self.calls + other.calls,
            both(self.prompt_tokens, other.prompt_tokens),
            both(self.output_tokens, other.output_tokens),
            self.unpriced + other.unpriced,
            {
                currency: self.known_money.get(currency, 0) + other.known_money.get(currency, 0)
                for currency in sorted({*self.known_money, *other.known_money})
            },
            tuple(sorted({*self.prices, *other.prices})),
        )

    def as_json(self) -> dict[str, Any]:
        return {
            "calls": self.calls,
            "prompt_tokens": self.prompt_tokens,
            "output_tokens": self.output_tokens,
            "money": in_currency(self.money),
            "currency": self.currency,
            "unpriced_calls": self.unpriced,
            "known_money": {currency: in_currency(nano) for currency, nano in self.known_money.items()},
            "prices": list(self.prices),
        }


def sum_spending(rows: Sequence[Mapping[str, Any]]) -> Spending:
    """The sum of rows as `_sums` makes them."""
    known: Counter[str] = Counter()
    for row in rows:
        if row["currency"] is not None:
            known[row["currency"]] += int(row["cost"])
    calls = sum(row["calls"] for row in rows)
    tokens = {
        name: None if any(row[f"with_{name}"] < row["calls"] for row in rows) else sum(int(row[name]) for row in rows)
        for name in ("prompt_tokens", "output_tokens")
    }
    return Spending(
        calls,
        tokens["prompt_tokens"],
        tokens["output_tokens"],
        calls - sum(row["with_cost"] for row in rows),
        dict(sorted(known.items())),
        tuple(sorted({row["prices"] for row in rows if row["prices"]})),
    )


def cost_report(ledger: Ledger) -> dict[str, Any]:
    """All that was ever paid, whole and by asset, partition, model, day (UTC) and run, as JSON values.

    Each call counts once, in the run that first had its answer, so a resumed run adds only what it asked itself. Answers
    that were pruned, or came twice, and replies without an answer were paid for too. `lost_calls` were under way when their process died; whether
    they were billed only the provider knows, so they are told beside `calls` and are in no sum. `under_way` are
    reserved by processes that live (only runs with a cap reserve).
    """
    ledger.book_lost()
    with ledger.database.reading() as connection:
        rows = [dict(row) for row in _grouped(ledger.database, connection, CALLS, sa.true())]
        rows += _grouped(ledger.database, connection, UNKEPT, UNKEPT.c.why != "lost")
        lost = [dict(row) for row in _grouped(ledger.database, connection, UNKEPT, UNKEPT.c.why == "lost")]
        under_way = connection.execute(sa.select(sa.func.count()).select_from(RESERVATIONS)).scalar_one()

    def told(some: list[dict[str, Any]], lost: list[dict[str, Any]]) -> dict[str, Any]:
        return {**sum_spending(some).as_json(), "lost_calls": sum(row["calls"] for row in lost)}

    by: dict[str, list[dict[str, Any]]] = {}
    for dimension in COST_DIMENSIONS:
        groups: dict[Any, tuple[list[dict[str, Any]], list[dict[str, Any]]]] = defaultdict(lambda: ([], []))
        for place, part in enumerate((rows, lost)):
            for row in part:
                groups[row[dimension]][place].append(row)
        names = sorted(groups, key=lambda name: (name is None, name or ""))
        by[dimension] = [{dimension: name, **told(*groups[name])} for name in names]
    return {**told(rows, lost), "under_way": under_way, "by": by}


def cost_of_answers(ledger: Ledger, keys: Sequence[str]) -> Spending:
    """What the answers kept under these keys cost, whoever asked for them."""
    rows: list[dict[str, Any]] = []
    with ledger.database.reading() as connection:
        for block in key_blocks(keys):
            query = sa.select(*_sums(CALLS), CALLS.c.currency, CALLS.c.prices).where(CALLS.c.key.in_(block))
            rows += map(dict, connection.execute(query.group_by(CALLS.c.currency, CALLS.c.prices)).mappings())
    return sum_spending(rows)


def ledger_sizes(ledger: Ledger) -> list[dict[str, Any]]:
    """Calls and compressed bytes by stage and model."""
    with ledger.database.reading() as connection:
        return [_with_times(row) for row in connection.execute(_sizes(sa.true())).mappings()]


def read_calls(ledger: Ledger, prefix: str = "") -> Iterator[dict[str, Any]]:
    """The calls whose key begins with `prefix`, oldest first, with request and answer, as JSON values; streamed."""
    query = sa.select(CALLS).order_by(CALLS.c.answered_at, CALLS.c.key)
    if prefix:
        query = query.where(CALLS.c.key.startswith(prefix, autoescape=True))
    with ledger.database.reading() as connection:
        for row in connection.execution_options(yield_per=_STREAM_ROWS).execute(query).mappings():
            yield {
                **{name: row[name] for name in _MONEY_COLUMNS},
                "cost": in_currency(row["cost"]),
                "answered_at": _moment(row["answered_at"]),
                "request": json.loads(zlib.decompress(row["request"])),
                "answer": zlib.decompress(row["answer"]).decode(),
            }


def export_calls(ledger: Ledger, file: Path) -> int:
    """Write every call as one JSON line to a new file, which is there whole or not at all; returns their number."""
    if file.exists():
        raise LedgerError(f"{file} is there already: name a new file, or remove that one")
    part = file.with_name(f".{file.name}.{os.getpid()}")
    written = 0
    try:
        with part.open("w", encoding="utf-8") as lines:
            for call in read_calls(ledger):
                lines.write(json.dumps(call) + "\n")
                written += 1
            lines.flush()
            os.fsync(lines.fileno())
        part.rename(file)
    except OSError as error:
        raise LedgerError(f"{file} cannot be written: {error.strerror}") from None
    finally:
        part.unlink(missing_ok=True)
    return written


def prune_answers(
    ledger: Ledger, *, stage: str | None, model: str | None, before: str | None, remove: bool
) -> list[dict[str, Any]]:
    """Take answers out of the ledger, by stage, model and day (UTC, before it); returns what goes, as `sizes` does.

    Without `remove` nothing changes. What they cost stays in the accounts. The next run that needs one asks, and pays,
    again. Raises LedgerError without any condition or with a day that is none.
    """
    conditions = []
    if stage is not None:
        conditions.append(CALLS.c.stage == stage)
    if model is not None:
        conditions.append(CALLS.c.model == model)
    if before is not None:
        try:
            day = datetime.strptime(before, "%Y-%m-%d").replace(tzinfo=UTC)
        except ValueError:
            raise LedgerError(f"--before {before}: write a day as 2024-10-18") from None
        conditions.append(CALLS.c.answered_at < day.timestamp())
    if not conditions:
        raise LedgerError("prune what? Give --stage, --model or --before, or remove the ledger by hand")
    chosen = sa.and_(*conditions)
    with ledger.database.writing() if remove else ledger.database.reading() as connection:
        going = [_with_times(row) for row in connection.execute(_sizes(chosen)).mappings()]
        if remove:
            paid = sa.select(*(CALLS.c[name] for name in _MONEY_COLUMNS), sa.literal("pruned")).where(chosen)
            connection.execute(sa.insert(UNKEPT).from_select([*_MONEY_COLUMNS, "why"], paid))
            connection.execute(sa.delete(CALLS).where(chosen))
    if remove:
        ledger.database.compact()
    return going


def _sums(table: sa.Table) -> list[sa.ColumnElement[Any]]:
    sums: list[sa.ColumnElement[Any]] = [sa.func.count().label("calls")]
    for name in ("prompt_tokens", "output_tokens", "cost"):
        sums.append(sa.func.coalesce(sa.func.sum(table.c[name]), 0).label(name))
        sums.append(sa.func.count(table.c[name]).label(f"with_{name}"))
    return sums


def _grouped(
    database: Database, connection: sa.Connection, table: sa.Table, where: sa.ColumnElement[bool]
) -> list[dict[str, Any]]:
    keys = [*(table.c[column].label(name) for column, name in _TOLD_BY.items()), table.c.currency, table.c.prices]
    keys.append(database.day(table.c.answered_at).label("day"))
    query = sa.select(*keys, *_sums(table)).where(where).group_by(*keys)
    return [dict(row) for row in connection.execute(query).mappings()]


def _sizes(where: sa.ColumnElement[bool]) -> sa.Select[Any]:
    names = (CALLS.c.stage, CALLS.c.model)
    return (
        sa.select(
            *names,
            sa.func.count().label("calls"),
            sa.func.sum(sa.func.length(CALLS.c.request)).label("request_bytes"),
            sa.func.sum(sa.func.length(CALLS.c.answer)).label("answer_bytes"),
            sa.func.min(CALLS.c.answered_at).label("first"),
            sa.func.max(CALLS.c.answered_at).label("last"),
        )
        .where(where)
        .group_by(*names)
        .order_by(*names)
    )


def _with_times(row: Mapping[Any, Any]) -> dict[str, Any]:
    return {**row, "first": _moment(row["first"]), "last": _moment(row["last"])}


def _moment(at: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at))
