"""Prices and caps: unknown is null, and a cap holds for threads, processes and the killed, on both databases."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resources.ledger import accounts
from resources.ledger.budget import Budget
from resources.ledger.calls import Allowance, AnswerSink, CallContext, CapReached, TeacherAnswer, TeacherRequest
from resources.ledger.database import TALLIES, Database
from resources.ledger.ledger import Ledger
from resources.ledger.prices import NANO, UNPRICED, Tariff
from resources.teacher.teacher import Teacher
from speed_assets.recipe import Cap, Money, Recipe, RecipeError
from tests.support.tiny import tiny_recipe

SPAWN = multiprocessing.get_context("spawn")
BASE = TeacherRequest("prompt", "model", "1", None, {"temperature": 1.0, "max_new_tokens": 10})
CONTEXT = CallContext("run-1", "seed_data", "sts")
TARIFF = Tariff("2024-10-18", "USD", Decimal(1000), Decimal(2000))
HUNDRED = Money(run=Cap(calls=100))


def asked(*numbers: int) -> list[TeacherRequest]:
    return [replace(BASE, prompt=str(n)) for n in numbers]


def answers(requests: Sequence[TeacherRequest], prompt: int | None = 5, output: int | None = 5) -> list[Any]:
    return [(request, TeacherAnswer("x", prompt, output)) for request in requests]


def tallies(ledger: Ledger) -> dict[str, tuple[int, int]]:
    with ledger.database.reading() as connection:
        rows = connection.execute(TALLIES.select()).mappings()
        return {row["scope"]: (row["calls"], row["money"]) for row in rows if row["calls"] or row["money"]}


class CountingServer:
    """Requests that were sent, one byte each in a file that outlives every process."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __call__(self, request: TeacherRequest) -> TeacherAnswer:
        with self.file.open("ab") as log:
            log.write(b".")
        return TeacherAnswer(f"answer to {request.prompt}", 5, 5)

    @property
    def sent(self) -> int:
        return self.file.stat().st_size if self.file.exists() else 0


class Wide:
    """An engine that asks 64 calls at once, each with its own leave, as an HTTP engine does."""

    def __init__(self, server: CountingServer) -> None:
        self.server = server

    def answer(self, requests: Sequence[TeacherRequest], sink: AnswerSink, allowance: Allowance) -> None:
        def one(request: TeacherRequest) -> None:
            allowance.reserve([request])
            sink([(request, self.server(request))])

        with ThreadPoolExecutor(64) as threads:
            for done in [threads.submit(one, request) for request in requests]:
                done.result()


def recipe_with(**money: Any) -> Recipe:
    return tiny_recipe(money=money)


def _ask(home: str, recipe: dict[str, Any], run: str, numbers: range, together: Any) -> None:
    teacher = Teacher(Recipe.model_validate(recipe), Ledger.at(Path(home)), Wide(CountingServer(Path(home) / "sent")))
    requests = teacher.requests(map(str, numbers), tiny_recipe().seed_data.sampling)
    together.wait(120)
    try:
        teacher.ask(CallContext(run, "seed_data", "sts"), requests)
    except CapReached as error:
        (Path(home) / f"cap-{os.getpid()}").write_text(str(error))


@pytest.mark.parametrize(("money", "spent"), [({"run": {"calls": 100}}, 100), ({"day": {"calls": 100}}, 100)])
def test_processes_with_64_calls_in_flight_each_keep_one_cap(home: Path, money: dict[str, Any], spent: int) -> None:
    recipe = recipe_with(**money).model_dump()
    Ledger.at(home)
    together = SPAWN.Barrier(3)
    parts = [
        SPAWN.Process(target=_ask, args=(str(home), recipe, "run-1", range(start, start + 60), together))
        for start in (0, 1000, 2000)
    ]
    for part in parts:
        part.start()
    for part in parts:
        part.join(120)
    assert [part.exitcode for part in parts] == [0, 0, 0]
    assert CountingServer(home / "sent").sent == spent
    ledger = Ledger.at(home)
    assert (ledger.count(), accounts.cost_report(ledger)["calls"]) == (spent, spent)
    assert set(tallies(ledger).values()) == {(spent, 0)}
    said = [file.read_text() for file in home.glob("cap-*")]
    assert said
    (scope,) = money
    for words in said:
        assert f"money.{scope}.calls=100 is reached" in words
        assert "calls of seed_data/sts are left" in words
        assert "kept" in words
        assert "in the recipe" in words


def _send_and_hang(home: str, ready: Any) -> None:
    budget = Budget(Ledger.at(Path(home)), CONTEXT, HUNDRED, UNPRICED)
    requests = asked(*range(60))
    assert budget.reserve(requests) == 60
    server = CountingServer(Path(home) / "sent")
    for request in requests:
        server(request)
    budget.settle(answers(requests[:20]))
    ready.set()
    time.sleep(600)


def test_calls_of_a_killed_process_count_against_its_cap(home: Path) -> None:
    """They reached the server: whoever resumes the run may spend what is left, and not a call more."""
    ready = SPAWN.Event()
    process = SPAWN.Process(target=_send_and_hang, args=(str(home), ready))
    process.start()
    assert ready.wait(60)
    ledger = Ledger.at(home)
    assert accounts.cost_report(ledger)["under_way"] == 40
    process.kill()
    process.join()
    costs = accounts.cost_report(ledger)
    assert (costs["calls"], costs["under_way"], costs["lost_calls"]) == (20, 0, 40)
    server = CountingServer(home / "sent")
    teacher = Teacher(recipe_with(run={"calls": 100}), ledger, Wide(server))
    requests = teacher.requests(map(str, range(80)), tiny_recipe().seed_data.sampling)
    with pytest.raises(CapReached, match=r"money.run.calls=100 is reached: 100 calls.*40 of 80 calls"):
        teacher.ask(CONTEXT, requests)
    assert server.sent == 100
    teacher.ask(replace(CONTEXT, run="run-2"), requests)
    assert (server.sent, ledger.count()) == (140, 100), "a new run has a new allowance, and asks only what is missing"


def test_a_cap_on_a_stage_covers_its_partitions_and_no_other_run(home: Path) -> None:
    ledger = Ledger.at(home)
    money = Money(stage=Cap(calls=3))

    def budget(**changes: str) -> Budget:
        return Budget(ledger, replace(CONTEXT, **changes), money, UNPRICED)

    assert budget().reserve(asked(1, 2)) == 2
    assert budget(partition="retrieval").reserve(asked(3, 4)) == 1
    with pytest.raises(CapReached, match=r"money\.stage\.calls=3"):
        budget(partition="retrieval").reserve(asked(4))
    assert budget(stage="task_list").reserve(asked(4)) == 1
    assert budget(run="run-2").reserve(asked(5, 6, 7)) == 3


def test_money_is_reserved_at_its_most_and_settled_as_it_was(home: Path) -> None:
    ledger = Ledger.at(home)
    most = TARIFF.max_cost(asked(1)[0])
    budget = Budget(ledger, CONTEXT, Money(run=Cap(money=2.5 * most / NANO)), TARIFF)
    assert budget.reserve(asked(1, 2, 3)) == 2
    with pytest.raises(CapReached, match=r"money\.run\.money.*USD"):
        budget.reserve(asked(3))
    budget.settle(answers(asked(1)))
    assert tallies(ledger)["run"] == (2, most + 15_000)
    assert budget.reserve(asked(3, 4)) == 1, "what was not spent is free again"
    budget.release(asked(3))
    budget.release(asked(3))
    assert tallies(ledger)["run"] == (2, most + 15_000)
    budget.settle(answers(asked(2), None))
    assert tallies(ledger)["run"] == (2, most + 15_000), "of an unknown cost a cap counts the most"
    assert accounts.cost_report(ledger)["money"] is None


def test_refused_calls_are_free_again(home: Path) -> None:
    ledger = Ledger.at(home)
    budget = Budget(ledger, CONTEXT, HUNDRED, UNPRICED)
    budget.reserve(asked(1, 2))
    budget.settle([(asked(1)[0], TeacherAnswer("", error="no"))])
    budget.release(asked(1))
    assert tallies(ledger)["run"] == (1, 0)
    budget.close()
    assert tallies(ledger)["run"] == (1, 0)
    assert accounts.cost_report(ledger)["lost_calls"] == 1


def _send_batch(home: str) -> None:
    ledger = Ledger.at(Path(home))
    assert Budget(ledger, CONTEXT, HUNDRED, TARIFF).reserve(asked(*range(100))) == 100
    ledger.save_batch("b1", "http://e", [request.key for request in asked(*range(100))], {"file": "f"})
    os._exit(9)


@pytest.mark.parametrize("again", [False, True])
def test_a_batch_of_a_killed_process_is_paid_once(home: Path, again: bool) -> None:
    """Its reservations wait for it, whether the process that collects it takes leave again or not."""
    process = SPAWN.Process(target=_send_batch, args=(str(home),))
    process.start()
    process.join(60)
    ledger = Ledger.at(home)
    budget = Budget(ledger, CONTEXT, HUNDRED, TARIFF)
    (batch,) = ledger.claim_batches("http://e", [asked(0)[0].key])
    assert set(batch.keys) == {request.key for request in asked(*range(100))}
    with pytest.raises(CapReached):
        budget.reserve(asked(100))
    if again:
        assert budget.reserve(asked(*range(100))) == 100
    budget.settle(answers(asked(*range(90))))
    budget.release(asked(*range(90, 100)))
    ledger.close_batch("b1")
    budget.close()
    assert tallies(ledger)["run"] == (90, 90 * 15_000)
    costs = accounts.cost_report(ledger)
    assert (costs["calls"], costs["lost_calls"], costs["under_way"]) == (90, 0, 0)
    assert budget.reserve(asked(*range(200, 230))) == 10


def test_a_day_without_cap_counts_for_one_with_a_cap(home: Path) -> None:
    ledger = Ledger.at(home)
    Budget(ledger, CONTEXT, Money(), UNPRICED).settle(answers(asked(1, 2, 3)))
    other = replace(CONTEXT, run="run-2")
    assert Budget(ledger, other, Money(day=Cap(calls=5)), UNPRICED).reserve(asked(4, 5, 6)) == 2
    with pytest.raises(CapReached, match=r"\(UTC\).*tomorrow"):
        Budget(ledger, other, Money(day=Cap(calls=5)), UNPRICED).reserve(asked(6))


def test_without_caps_nothing_is_reserved(tmp_path: Path) -> None:
    ledger = Ledger.at(tmp_path)
    ledger.database.close()
    ledger.database.writing = None  # type: ignore[assignment,method-assign]
    budget = Budget(ledger, CONTEXT, Money(), TARIFF)
    assert budget.reserve(asked(1, 2)) == 2
    budget.release(asked(1))
    budget.close()


def test_tariff_of_a_recipe() -> None:
    model = tiny_recipe().teacher.model
    price = {"input_per_million": 0.15, "output_per_million": 0.6, "batch_factor": 0.5}
    prices = {"version": "v1", "models": {model: price}}
    assert Tariff.of(recipe_with(prices=prices)).cost(1_000_000, 1_000_000) == 750_000_000
    in_batch = tiny_recipe(money={"prices": prices}, calls={"mode": "batch"})
    assert Tariff.of(in_batch).cost(1_000_000, 1_000_000) == 375_000_000
    assert Tariff.of(in_batch).cost(1, 0) == 75
    for unknown in ({}, {"input_per_million": 0.15}):
        of = Tariff.of(recipe_with(prices={"version": "v1", "models": {model: unknown}}))
        assert (of.version, of.cost(1, 1), of.max_cost(BASE)) == ("v1", None, 0)
    assert Tariff.of(recipe_with()).cost(1, 1) is None
    free = {"input_per_million": 0, "output_per_million": 0}
    assert Tariff.of(recipe_with(prices={"version": "v1", "models": {model: free}})).cost(9, 9) == 0
    with pytest.raises((RecipeError, ValueError), match="needs the price"):
        recipe_with(run={"money": 1.0})


@given(st.text(), st.integers(0, 500))
def test_no_call_costs_more_than_its_most(prompt: str, output: int) -> None:
    prompt = prompt.encode("utf-8", "replace").decode()
    request = replace(BASE, prompt=prompt, parameters={"max_new_tokens": output})
    cost = TARIFF.cost(len(prompt.encode()) + 20, output)
    assert cost is not None
    assert cost <= TARIFF.max_cost(request)


@given(st.lists(st.tuples(st.sampled_from(["take", "settle", "back", "refuse"]), st.integers(0, 8)), max_size=25))
def test_tallies_are_what_is_held_and_spent(steps: list[tuple[str, int]]) -> None:
    """Whatever order taking, settling and giving back come in, each call counts once and a cap of six holds."""
    ledger = Ledger(Database("sqlite://"))
    budget = Budget(ledger, CONTEXT, Money(run=Cap(calls=6)), TARIFF)
    held: set[int] = set()
    settled: set[int] = set()
    for step, number in steps:
        request = asked(number)
        if step == "take" and number not in settled:
            with suppress(CapReached):
                budget.reserve(request)
                held.add(number)
        elif number in held:
            held.remove(number)
            if step == "settle":
                settled.add(number)
                budget.settle(answers(request))
            elif step == "back":
                budget.release(request)
            else:
                budget.settle([(request[0], TeacherAnswer("", error="no"))])
        assert len(held | settled) <= 6
        money = sum(TARIFF.max_cost(r) for r in asked(*held)) + 15_000 * len(settled)
        assert tallies(ledger).get("run", (0, 0)) == (len(held) + len(settled), money)
