"""The budget: permission to send a call, limited by caps on a run, a stage and a day.

The most that a call can cost is reserved before it is sent, and settled in the transaction that stores its answer.
Reserving reads and writes the tallies in one transaction that no other writer overlaps, so caps hold for any number of
threads and processes.

**A reservation is freed by the process that took it, never by time.** A call under way when its process was killed may have
been answered and billed; freeing it would let the next run spend that money again, beyond the cap. It is booked as `lost`,
counts as spent under its caps, and `speed cost` shows it. That costs little: at most the calls in flight, and a new run
starts with a new budget for run and stage.

Belongs here: caps. Not here: prices (`prices.py`), storing answers (`ledger.py`).
"""

from __future__ import annotations

import time
import uuid
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import sqlalchemy as sa

from resources.ledger.calls import CallContext, CapReached, TeacherAnswer, TeacherRequest
from resources.ledger.database import RESERVATIONS, TALLIES
from resources.ledger.holders import process_name
from resources.ledger.ledger import (
    Ledger,
    Scope,
    add_to_tally,
    cap_scopes,
    drop_reservations,
    find_reservations,
    save_tally,
)
from resources.ledger.prices import NANO, Tariff, in_currency
from speed_assets.recipe import Money


@dataclass(slots=True)
class _CapUsage:
    """A cap, and what is spent and reserved under it. None is no cap; money is in 10^-9 of the currency."""

    scope: str
    name: str
    calls_cap: int | None
    money_cap: int | None
    calls: int = 0
    money: int = 0

    def full(self, most: int) -> str | None:
        """The field of the recipe that forbids one more call that may cost `most`; None when it is allowed."""
        if self.calls_cap is not None and self.calls + 1 > self.calls_cap:
            return f"money.{self.scope}.calls"
        if self.money_cap is not None and self.money + most > self.money_cap:
            return f"money.{self.scope}.money"
        return None


class Budget:
    """The `Allowance` of one stage in one run. Without a cap it permits everything and writes no reservations.

    Answers reach the ledger through `settle`; `close` ends it.
    """

    def __init__(self, ledger: Ledger, context: CallContext, money: Money, tariff: Tariff) -> None:
        self._ledger = ledger
        self._context = context
        self._tariff = tariff
        self._caps = {
            scope: cap
            for scope, cap in (("run", money.run), ("stage", money.stage), ("day", money.day))
            if cap.calls is not None or cap.money is not None
        }
        self._holder: str | None = None
        if self._caps:
            self._holder = f"{process_name()}/{uuid.uuid4().hex}"
            ledger.book_lost()

    def reserve(self, requests: Sequence[TeacherRequest]) -> int:
        """Reserve the price of as many requests as fit under every cap, from the first on.

        A request that has a reservation already, its own or that of a batch, keeps it and is not counted twice.

        Args:
            requests: Requests to send, in this order.

        Returns:
            How many were reserved, at least 1 unless there are none.

        Raises:
            CapReached: The first does not fit.
        """
        if self._holder is None or not requests:
            return len(requests)
        now = time.time()
        with self._ledger.database.writing() as connection:
            known = find_reservations(connection, [request.key for request in requests], self._holder)
            rooms = self._rooms(connection, now)
            new: dict[str, dict[str, Any]] = {}
            granted = 0
            for request in requests:
                key = request.key
                if key not in known and key not in new:
                    most = self._tariff.max_cost(request)
                    full = [(field, room) for room in rooms if (field := room.full(most))]
                    if full and not granted:
                        raise CapReached(self._words(*full[0], most))
                    if full:
                        break
                    for room in rooms:
                        room.calls, room.money = room.calls + 1, room.money + most
                    new[key] = self._reservation(request, most, now)
                granted += 1
            self._hold(connection, [known[r.key] for r in requests[:granted] if r.key in known])
            if new:
                connection.execute(sa.insert(RESERVATIONS), list(new.values()))
            tally: Counter[tuple[Scope, str]] = Counter()
            for row in new.values():
                add_to_tally(tally, row, 1, row["money"])
            save_tally(self._ledger.database, connection, tally)
        return granted

    def release(self, requests: Sequence[TeacherRequest]) -> None:
        """Free what was reserved for requests that were not sent, or were refused."""
        if self._holder is None or not requests:
            return
        with self._ledger.database.writing() as connection:
            held = find_reservations(connection, [request.key for request in requests], self._holder)
            drop_reservations(connection, held.values())
            tally: Counter[tuple[Scope, str]] = Counter()
            for row in held.values():
                add_to_tally(tally, row, -1, -row["money"])
            save_tally(self._ledger.database, connection, tally)

    def settle(self, answered: Sequence[tuple[TeacherRequest, TeacherAnswer]]) -> None:
        """Store answers, book their costs, and free what was reserved beyond them. Durable on return."""
        self._ledger.record(self._context, answered, self._tariff, self._holder)

    def close(self) -> None:
        """End the stage: calls that are still reserved were sent and never answered, and are booked as lost."""
        if self._holder is not None:
            self._ledger.book_lost(self._holder)

    def _rooms(self, connection: sa.Connection, now: float) -> list[_CapUsage]:
        names = cap_scopes(self._context.run, self._context.stage, now)
        rooms = {
            scope: _CapUsage(
                scope, names[scope], cap.calls, None if cap.money is None else int(Decimal(str(cap.money)) * NANO)
            )
            for scope, cap in self._caps.items()
        }
        mine = sa.or_(*((TALLIES.c.scope == room.scope) & (TALLIES.c.name == room.name) for room in rooms.values()))
        for row in connection.execute(sa.select(TALLIES).where(mine)).mappings():
            room = rooms[row["scope"]]
            room.calls += row["calls"]
            room.money += row["money"] if row["currency"] == self._tariff.currency else 0
        return list(rooms.values())

    def _reservation(self, request: TeacherRequest, most: int, now: float) -> dict[str, Any]:
        return {
            "key": request.key,
            "holder": self._holder,
            "run": self._context.run,
            "stage": self._context.stage,
            "partition": self._context.partition,
            "model": request.model,
            "endpoint": request.endpoint,
            "money": most,
            "currency": self._tariff.currency,
            "taken_at": now,
        }

    def _hold(self, connection: sa.Connection, held: Sequence[dict[str, Any]]) -> None:
        """Take over reservations that a batch left behind."""
        for row in held:
            if row["holder"] != self._holder:
                this = (RESERVATIONS.c.key == row["key"]) & (RESERVATIONS.c.holder == row["holder"])
                connection.execute(sa.update(RESERVATIONS).where(this).values(holder=self._holder))

    def _words(self, field: str, room: _CapUsage, most: int) -> str:
        cap = getattr(self._caps[room.scope], field.rpartition(".")[2])
        currency = self._tariff.currency
        spent = f"{room.calls:,} calls"
        if field.endswith(".money"):
            spent = (
                f"{in_currency(room.money):g} {currency}, and the next call may cost {in_currency(most):g} {currency},"
            )
        where = {"run": f"run {room.name}", "stage": f"{self._context.stage} of run {self._context.run}"}
        again = (
            "run again with a new allowance, or raise" if room.scope != "day" else "run again tomorrow (UTC), or raise"
        )
        return (
            f"{field}={cap:g} is reached: {spent} are spent or under way in {where.get(room.scope, room.name + ' (UTC)')}"
            f"; everything answered is kept; to continue, {again} {field} in the recipe"
        )
