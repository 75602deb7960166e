"""The ledger: every teacher call by key, its answer durable and paid for before the caller sees it.

Request key = sha256 over messages, model and revision, endpoint, sampling parameters, schema and sample number. No run sends
a key that has an answer; a changed prompt, endpoint or model can never get a stale answer. Failed calls, and replies without
an answer, are not stored.

Belongs here: storing and looking up answers, reservations and outstanding batches. Not here: sending (`resources/teacher`),
caps (`budget.py`), reports (`accounts.py`).
"""

from __future__ import annotations

import json
import time
import zlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from resources.ledger.calls import CallContext, TeacherAnswer, TeacherRequest
from resources.ledger.database import BATCH_KEYS, BATCHES, CALLS, RESERVATIONS, TALLIES, UNKEPT, Database, key_blocks
from resources.ledger.holders import is_alive, process_name
from resources.ledger.prices import UNPRICED, Tariff
from resources.redaction import masked
from speed_assets.domain.fingerprints import canonical_json

Scope = tuple[str, str, str]
"""What a cap applies to: (`run`, `stage` or `day`, its name, currency)."""


@dataclass(frozen=True)
class OutstandingBatch:
    """A batch at a provider that has not been closed, the keys of its requests, and the engine's own notes."""

    id: str
    endpoint: str
    keys: tuple[str, ...]
    info: Mapping[str, Any]
    saved_at: float


class Ledger:
    """Answers by request key. Threads and processes may share it."""

    def __init__(self, database: Database) -> None:
        self.database = database

    @classmethod
    def at(cls, home: Path) -> Ledger:
        """The ledger of a home. Raises LedgerError when it cannot be opened."""
        return cls(Database.of(home))

    def lookup(self, keys: Sequence[str]) -> dict[str, TeacherAnswer]:
        """The answers under these keys, by key; keys without one are absent."""
        found: dict[str, TeacherAnswer] = {}
        names = ("key", "answer", "prompt_tokens", "output_tokens", "finished", "served")
        columns = tuple(CALLS.c[name] for name in names)
        with self.database.reading() as connection:
            for block in key_blocks(keys):
                rows = connection.execute(sa.select(*columns).where(CALLS.c.key.in_(block)))
                for key, answer, before, after, finished, served in rows:
                    text = zlib.decompress(answer).decode()
                    found[key] = TeacherAnswer(text, before, after, reused=True, finished=finished, served=served)
        return found

    def record(
        self,
        context: CallContext,
        answered: Sequence[tuple[TeacherRequest, TeacherAnswer]],
        tariff: Tariff = UNPRICED,
        holder: str | None = None,
    ) -> None:
        """Store answers and settle what was reserved for them, in one transaction. Durable on return.

        The first answer of a key stays; a second one is booked as paid for and not stored, and so is a reply without an
        answer. A refused request is neither stored nor counted, and its reservation is freed.

        Args:
            context: The stage and run that pay.
            answered: Requests with their replies.
            tariff: The price of the model's calls.
            holder: Whose reservations are settled; None settles those of outstanding batches only.
        """
        if not answered:
            return
        now = time.time()
        keys = [request.key for request, _ in answered]
        rows = [
            _row(context, key, request, answer, tariff, now)
            for key, (request, answer) in zip(keys, answered, strict=True)
            if answer.error is None or answer.without_answer
        ]
        with self.database.writing() as connection:
            held = find_reservations(connection, keys, holder)
            drop_reservations(connection, held.values())
            kept = {key for block in key_blocks(keys) for (key,) in connection.execute(_kept(block))}
            new: dict[str, dict[str, Any]] = {}
            unkept = []
            tally: Counter[tuple[Scope, str]] = Counter()
            for reservation in held.values():
                add_to_tally(tally, reservation, -1, -reservation["money"])
            for row in rows:
                counted, kind, key = row.pop("counted"), row.pop("kind"), row["key"]
                at = held.get(key) or {"run": context.run, "stage": context.stage, "taken_at": now}
                add_to_tally(tally, {**at, "currency": tariff.currency}, 1, counted)
                if kind != "answer" or key in kept or key in new:
                    paid = {k: v for k, v in row.items() if k not in ("request", "answer", "finished", "served")}
                    unkept.append(paid | {"why": "doubled" if kind == "answer" else kind})
                else:
                    new[key] = row
            if new:
                connection.execute(sa.insert(CALLS), list(new.values()))
            if unkept:
                connection.execute(sa.insert(UNKEPT), unkept)
            save_tally(self.database, connection, tally)

    def count(self) -> int:
        """Number of answers."""
        with self.database.reading() as connection:
            return connection.execute(sa.select(sa.func.count()).select_from(CALLS)).scalar_one()

    def book_lost(self, holder: str | None = None) -> None:
        """Book what was reserved and never settled as lost.

        It still counts against the caps, since such a call may have reached the provider and been billed. Requests in an
        outstanding batch are not lost: the batch will answer them.

        Args:
            holder: Whose reservations; None means those of every dead process.
        """
        out = sa.select(BATCH_KEYS.c.key)
        with self.database.reading() as connection:
            query = sa.select(RESERVATIONS.c.holder, sa.func.max(RESERVATIONS.c.taken_at)).group_by(
                RESERVATIONS.c.holder
            )
            dead = [
                h for h, since in connection.execute(query) if h == holder or (not holder and not is_alive(h, since))
            ]
        if not dead:
            return
        gone = sa.and_(RESERVATIONS.c.holder.in_(dead), RESERVATIONS.c.key.not_in(out))
        names = ("key", "run", "stage", "partition", "model", "endpoint")
        what = [RESERVATIONS.c[name] for name in names] + [sa.literal("lost"), RESERVATIONS.c.taken_at]
        with self.database.writing() as connection:
            connection.execute(
                sa.insert(UNKEPT).from_select([*names, "why", "answered_at"], sa.select(*what).where(gone))
            )
            connection.execute(sa.delete(RESERVATIONS).where(gone))

    def save_batch(self, id: str, endpoint: str, keys: Iterable[str], info: Mapping[str, Any]) -> None:
        """Store a batch and its keys, held by this process. Durable on return; an id that is stored gets the new `info`.

        Args:
            id: Our own name of the batch.
            endpoint: URL of the server.
            keys: Keys of its requests.
            info: JSON values that the engine needs to resume after a kill.
        """
        now = time.time()
        row: dict[str, Any] = {
            "id": id,
            "endpoint": endpoint,
            "info": masked(canonical_json(dict(info))),
            "holder": process_name(),
        }
        row |= {"held_at": now, "saved_at": now}
        with self.database.writing() as connection:
            changed = {name: row[name] for name in ("info", "holder", "held_at")}
            connection.execute(
                self.database.add(BATCHES).values(row).on_conflict_do_update(index_elements=["id"], set_=changed)
            )
            parts = [{"batch": id, "key": key} for key in dict.fromkeys(keys)]
            if parts:
                connection.execute(self.database.add(BATCH_KEYS).on_conflict_do_nothing(), parts)

    def claim_batches(self, endpoint: str, keys: Iterable[str]) -> list[OutstandingBatch]:
        """Take over the outstanding batches that no other live process holds, so that no answer is collected twice.

        Args:
            endpoint: URL of the server.
            keys: Only batches with one of these keys are taken over.

        Returns:
            The batches, oldest first, now held by this process.
        """
        claimed = []
        query = sa.select(BATCHES).where(BATCHES.c.endpoint == endpoint).order_by(BATCHES.c.saved_at, BATCHES.c.id)
        with self.database.reading() as connection:
            if connection.execute(query.limit(1)).first() is None:
                return []
        with self.database.writing() as connection:
            holding = sa.select(BATCH_KEYS.c.batch).distinct()
            concerned = {
                batch
                for block in key_blocks(list(keys))
                for (batch,) in connection.execute(holding.where(BATCH_KEYS.c.key.in_(block)))
            }
            for row in connection.execute(query).mappings().all():
                if row["id"] not in concerned:
                    continue
                if row["holder"] != process_name() and is_alive(row["holder"], row["held_at"]):
                    continue
                mine = {"holder": process_name(), "held_at": time.time()}
                connection.execute(sa.update(BATCHES).where(BATCHES.c.id == row["id"]).values(mine))
                keys = connection.execute(sa.select(BATCH_KEYS.c.key).where(BATCH_KEYS.c.batch == row["id"])).scalars()
                claimed.append(
                    OutstandingBatch(row["id"], endpoint, tuple(keys), json.loads(row["info"]), row["saved_at"])
                )
        return claimed

    def close_batch(self, id: str) -> None:
        """Forget a batch: its answers went through the sink, the rest was released."""
        with self.database.writing() as connection:
            connection.execute(sa.delete(BATCH_KEYS).where(BATCH_KEYS.c.batch == id))
            connection.execute(sa.delete(BATCHES).where(BATCHES.c.id == id))


def find_reservations(connection: sa.Connection, keys: Sequence[str], holder: str | None) -> dict[str, dict[str, Any]]:
    """The reservations of `keys`, by key: `holder`'s own, else one of an outstanding batch."""
    held: dict[str, dict[str, Any]] = {}
    in_batch = RESERVATIONS.c.key.in_(sa.select(BATCH_KEYS.c.key))
    for block in key_blocks(keys):
        query = sa.select(RESERVATIONS).where(RESERVATIONS.c.key.in_(block))
        for row in connection.execute(query.where(sa.or_(RESERVATIONS.c.holder == holder, in_batch))).mappings():
            if row["key"] not in held or row["holder"] == holder:
                held[row["key"]] = dict(row)
    return held


def drop_reservations(connection: sa.Connection, held: Iterable[Mapping[str, Any]]) -> None:
    """Remove reservations; the caller corrects the tallies in the same transaction."""
    rows = [{"a_key": row["key"], "a_holder": row["holder"]} for row in held]
    if rows:
        this = (RESERVATIONS.c.key == sa.bindparam("a_key")) & (RESERVATIONS.c.holder == sa.bindparam("a_holder"))
        connection.execute(sa.delete(RESERVATIONS).where(this), rows)


def cap_scopes(run: str, stage: str, at: float) -> dict[str, str]:
    """The names under which a call is counted: its run, its stage in that run, and its day (UTC)."""
    return {"run": run, "stage": f"{run}/{stage}", "day": day_of(at)}


def day_of(at: float) -> str:
    """The day (UTC) of a moment in Unix seconds."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d")


def add_to_tally(tally: Counter[tuple[Scope, str]], call: Mapping[str, Any], calls: int, money: int) -> None:
    """Add calls and their money to the tallies of their run, stage and day; `save_tally` writes them.

    Args:
        tally: By scope and by `calls` or `money`; it is changed.
        call: Has `run`, `stage`, `taken_at` (Unix seconds) and `currency`.
        calls: Number of calls, negative to take them back.
        money: What they cost, in 10^-9 of the currency.
    """
    for scope, name in cap_scopes(call["run"], call["stage"], call["taken_at"]).items():
        tally[(scope, name, call["currency"]), "calls"] += calls
        tally[(scope, name, call["currency"]), "money"] += money


def save_tally(database: Database, connection: sa.Connection, tally: Counter[tuple[Scope, str]]) -> None:
    """Add a tally to the stored ones."""
    changed = sorted({scope for (scope, _), number in tally.items() if number})
    if not changed:
        return
    rows = [
        dict(zip(("scope", "name", "currency"), scope, strict=True))
        | {"calls": tally[scope, "calls"], "money": tally[scope, "money"]}
        for scope in changed
    ]
    insert = database.add(TALLIES)
    added = {name: TALLIES.c[name] + insert.excluded[name] for name in ("calls", "money")}
    connection.execute(insert.on_conflict_do_update(index_elements=["scope", "name", "currency"], set_=added), rows)


def _kept(keys: list[str]) -> sa.Select[tuple[str]]:
    return sa.select(CALLS.c.key).where(CALLS.c.key.in_(keys))


def _row(
    context: CallContext, key: str, request: TeacherRequest, answer: TeacherAnswer, tariff: Tariff, now: float
) -> dict[str, Any]:
    """A row of `calls`, and `counted`: what a cap counts, the most it can have cost where the cost is unknown."""
    cost = tariff.cost(answer.prompt_tokens, answer.output_tokens)
    return {
        "key": key,
        "run": context.run,
        "stage": context.stage,
        "partition": context.partition,
        "model": request.model,
        "endpoint": request.endpoint,
        "request": zlib.compress(masked(canonical_json(request.identity())).encode()),
        "answer": zlib.compress(masked(answer.text).encode("utf-8", "replace")),
        "finished": answer.finished,
        "served": masked(answer.served) if answer.served else answer.served,
        "kind": answer.kind,
        "prompt_tokens": answer.prompt_tokens,
        "output_tokens": answer.output_tokens,
        "cost": cost,
        "currency": tariff.currency if cost is not None else None,
        "prices": tariff.version,
        "answered_at": now,
        "counted": cost if cost is not None else tariff.max_cost(request),
    }
