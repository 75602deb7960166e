"""Reports of a ledger: costs, sizes, single calls, an export of all calls as JSON lines; and removing answers.

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
from resources.redaction import masked

COST_DIMENSIONS = ("asset", "partition", "model", "day", "run")
_COLUMN_OF = {"stage": "asset", "partition": "partition", "model": "model", "run": "run"}
_STREAM_ROWS = 500
_MONEY_COLUMNS = [c.name for c in UNKEPT.columns if c.name not in ("id", "why")]


@dataclass(frozen=True, slots=True)
class Spending:
    """Sums over some calls; two are added with `+`. A sum with an unknown part is unknown, which is None.

    Attributes:
        calls: Number of calls.
        prompt_tokens: As the providers count them.
        output_tokens: As the providers count them.
        unpriced: Calls whose cost is unknown.
        known_money: Money of the other calls, by currency, in 10^-9.
        prices: Versions of the price tables, sorted.
    """

    calls: int
    prompt_tokens: int | None
    output_tokens: int | None
    unpriced: int
    known_money: Mapping[str, int]
    prices: tuple[str, ...]

    @property
    def money(self) -> int | None:
        """10^-9 of the only currency; None when a call's cost is unknown, or when there are several currencies."""
        return None if self.unpriced or len(self.known_money) > 1 else sum(self.known_money.values())

    @property
    def currency(self) -> str | None:
        """The only currency; None when there is none, or several."""
        return next(iter(self.known_money)) if len(self.known_money) == 1 else None

    def __add__(self, other: Spending) -> Spending:
        def add_known(one: int | None, two: int | None) -> int | None:
            return None if one is None or two is None else one + two

        return Spending(
            self.calls + other.calls,
            add_known(self.prompt_tokens, other.prompt_tokens),
            add_known(self.output_tokens, other.output_tokens),
            self.unpriced + other.unpriced,
            {
                currency: self.known_money.get(currency, 0) + other.known_money.get(currency, 0)
                for currency in sorted({*self.known_money, *other.known_money})
            },
            tuple(sorted({*self.prices, *other.prices})),
        )

    def as_json(self) -> dict[str, Any]:
        """JSON values, with money in units of the currency."""
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
    """The sum of the rows of a query over `_sums`."""
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
    """All costs of a ledger, in sum and by asset, partition, model, day (UTC) and run.

    Each call counts once, in the run that first had its answer, so a resumed run adds only the calls that it sent. Answers
    that were pruned or arrived twice, and replies without an answer, count as well: they were paid for. `lost_calls` were
    under way when their process died. Only the provider knows whether they were billed, so they are in no sum. `under_way`
    are reserved by live processes (only runs with a cap reserve).

    Args:
        ledger: The ledger; reservations of dead processes are booked as lost.

    Returns:
        JSON values: those of `Spending.as_json`, `lost_calls`, `under_way`, and `by` with one list for each dimension.
    """
    ledger.book_lost()
    with ledger.database.reading() as connection:
        rows = [dict(row) for row in _grouped(ledger.database, connection, CALLS, sa.true())]
        rows += _grouped(ledger.database, connection, UNKEPT, UNKEPT.c.why != "lost")
        lost = [dict(row) for row in _grouped(ledger.database, connection, UNKEPT, UNKEPT.c.why == "lost")]
        under_way = connection.execute(sa.select(sa.func.count()).select_from(RESERVATIONS)).scalar_one()

    def summed(some: list[dict[str, Any]], lost: list[dict[str, Any]]) -> dict[str, Any]:
        return {**sum_spending(some).as_json(), "lost_calls": sum(row["calls"] for row in lost)}

    by: dict[str, list[dict[str, Any]]] = {}
    for dimension in COST_DIMENSIONS:
        groups: dict[Any, tuple[list[dict[str, Any]], list[dict[str, Any]]]] = defaultdict(lambda: ([], []))
        for place, part in enumerate((rows, lost)):
            for row in part:
                groups[row[dimension]][place].append(row)
        names = sorted(groups, key=lambda name: (name is None, name or ""))
        by[dimension] = [{dimension: name, **summed(*groups[name])} for name in names]
    return {**summed(rows, lost), "under_way": under_way, "by": by}


def cost_of_answers(ledger: Ledger, keys: Sequence[str]) -> Spending:
    """The costs of the answers under these keys, whichever run paid for them."""
    rows: list[dict[str, Any]] = []
    with ledger.database.reading() as connection:
        for block in key_blocks(keys):
            query = sa.select(*_sums(CALLS), CALLS.c.currency, CALLS.c.prices).where(CALLS.c.key.in_(block))
            rows += map(dict, connection.execute(query.group_by(CALLS.c.currency, CALLS.c.prices)).mappings())
    return sum_spending(rows)


def ledger_sizes(ledger: Ledger) -> list[dict[str, Any]]:
    """Calls, compressed bytes of requests and answers, first and last time (UTC), by stage and model."""
    with ledger.database.reading() as connection:
        return [_with_times(row) for row in connection.execute(_sizes(sa.true())).mappings()]


def read_calls(ledger: Ledger, prefix: str = "") -> Iterator[dict[str, Any]]:
    """The calls whose key begins with `prefix`, oldest first, with request and answer, as JSON values.

    Rows are streamed, so a ledger larger than memory can be read.
    """
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
    """Write every call as one JSON line to a new file, atomically.

    Args:
        ledger: The ledger.
        file: Must not exist.

    Returns:
        The number of calls.

    Raises:
        LedgerError: The file exists or cannot be written.
    """
    if file.exists():
        raise LedgerError(f"{file} exists already: name a new file, or remove that one")
    part = file.with_name(f".{file.name}.{os.getpid()}")
    written = 0
    try:
        with part.open("w", encoding="utf-8") as lines:
            for call in read_calls(ledger):
                lines.write(masked(json.dumps(call)) + "\n")
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
    """Remove answers from the ledger. Their costs stay in the accounts; a run that needs one sends and pays for it again.

    Args:
        ledger: The ledger.
        stage: Only answers of this stage.
        model: Only answers of this model.
        before: Only answers before this day (UTC, `2024-10-18`).
        remove: Remove; otherwise nothing changes (dry run).

    Returns:
        What is removed, as `ledger_sizes` reports it.

    Raises:
        LedgerError: There is no condition, or `before` is no day.
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
        raise LedgerError(
            "nothing selects what to prune: give --stage, --model or --before, or remove the ledger by hand"
        )
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
    keys = [*(table.c[column].label(name) for column, name in _COLUMN_OF.items()), table.c.currency, table.c.prices]
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
