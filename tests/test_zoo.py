"""Every dialect of `tests/support/zoo.py` against every case: the table in docs/teachers.md, cell by cell."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from support.zoo import SPECIES, Quirks, Zoo, by_words

from resources.ledger import accounts
from resources.ledger.calls import CallContext, TeacherAnswer, TeacherUnavailable
from resources.ledger.ledger import Ledger
from resources.teacher.known_dialects import DIALECTS_FILE, PROBE_CALLS_MAX, DialectBook
from resources.teacher.teacher import Teacher
from resources.teacher.teacher_use import TeacherUse
from speed_assets.domain.parsing import parse_tasks
from speed_assets.domain.prompts import schema_for
from speed_assets.recipe import PROJECT, Recipe, Sampling
from speed_assets.recipe.sections.teacher_section import NonAnswers
from tests.support.tiny import tiny_data, tiny_recipe

CALLS: dict[str, Any] = {"backoff_s": 0.01, "backoff_max_s": 0.05, "timeout_s": 5.0, "breaker_s": 20}
CONTEXT = CallContext("run", "task_list", "retrieval")
COUNT = 10
SCHEMA = schema_for("brainstorm", "retrieval")
WARM, GREEDY = Sampling(temperature=1.0, max_new_tokens=900), Sampling(temperature=0.0, max_new_tokens=900)
ONCE = ("thoughts first", "parts", "no usage", "cut", "only thoughts", "filtered", "refusal", "empty", "error in choice",
        "tool call")  # fmt: skip


TABLE = {
    name: tuple(int(count) for count in counts.split(",") if count.strip().isdigit())
    for name, counts in re.findall(
        r"^\| `(\w+)` \|[^|]*\| (\d+, [\d-]+) \|", (PROJECT / "docs" / "teachers.md").read_text(), re.MULTILINE
    )
}
"""Refused calls of each server by docs/teachers.md, without and with its preset."""


def recipe_at(url: str, dialect: dict[str, Any] | None = None, **changes: Any) -> Recipe:
    teacher = {"engine": "openai", "model": "m", "endpoint": url, **({"dialect": dialect} if dialect else {})}
    return tiny_recipe(**{"teacher": {**tiny_data()["teacher"], **teacher}, "calls": CALLS, **changes})


def prompts(count: int = COUNT) -> list[str]:
    return [f"brainstorm retrieval: Arts/Music\ntasks: {number + 1}\n" for number in range(count)]


def ask(
    recipe: Recipe, home: Path, sampling: Sampling = WARM, count: int = COUNT
) -> tuple[list[TeacherAnswer], TeacherUse]:
    """Ask with nothing known but what the home holds."""
    teacher = Teacher(recipe, Ledger.at(home), dialects=DialectBook(recipe.teacher, home))
    return teacher.ask(CONTEXT, teacher.requests(prompts(count), sampling, SCHEMA))


def tasks_of(answers: list[TeacherAnswer]) -> list[Any]:
    return [parse_tasks(answer.text, number + 1, answer.finished) for number, answer in enumerate(answers)]


@pytest.fixture(scope="module")
def usual(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """What a server without quirks gives."""
    with Zoo(by_words(), SPECIES["vllm"]) as server:
        return tasks_of(ask(recipe_at(server.url), tmp_path_factory.mktemp("usual"))[0])


@pytest.mark.parametrize("name", SPECIES)
def test_a_recipe_of_endpoint_and_model_is_answered_as_anywhere(name: str, usual: list[Any], tmp_path: Path) -> None:
    with Zoo(by_words(), SPECIES[name]) as server:
        recipe = recipe_at(server.url)
        warm, use = ask(recipe, tmp_path)
        greedy, _ = ask(recipe, tmp_path, GREEDY)
        refused, sent = len(server.refused), len(server.bodies)
        assert tasks_of(warm) == tasks_of(greedy) == usual
        assert refused == TABLE[name][0] < PROBE_CALLS_MAX
        assert sent == 2 * COUNT + refused, "nothing is asked twice"
        assert (use.calls, use.refused, use.nothing) == (COUNT, 0, {})
        assert bool(use.metadata()["teacher_asked_with"]) == (refused > 0)
        # What was found is used again, by another process as well.
        ask(recipe, tmp_path, WARM.model_copy(update={"max_new_tokens": 901}))
        assert (len(server.refused), len(server.bodies)) == (refused, sent + COUNT)
        again, use = ask(recipe, tmp_path)
        assert (use.calls, use.reused, tasks_of(again)) == (0, COUNT, usual)
    assert (tmp_path / DIALECTS_FILE).exists()


@pytest.mark.parametrize("name", [name for name in SPECIES if SPECIES[name].preset])
def test_a_preset_leaves_little_to_find_out(name: str, usual: list[Any], tmp_path: Path) -> None:
    with Zoo(by_words(), SPECIES[name]) as server:
        answers, _ = ask(recipe_at(server.url, {"preset": SPECIES[name].preset}), tmp_path)
    assert tasks_of(answers) == usual
    # DeepSeek's JSON mode wants the word in the prompt, and the microworld's prompts do not have it.
    assert len(server.refused) == TABLE[name][1]


@pytest.mark.parametrize("case", ONCE)
@pytest.mark.parametrize("name", SPECIES)
def test_what_happens_once_costs_one_row_at_most(name: str, case: str, usual: list[Any], tmp_path: Path) -> None:
    with Zoo(by_words(), SPECIES[name], Quirks(case, times=1)) as server:
        answers, use = ask(recipe_at(server.url), tmp_path)
    tasks, sent = tasks_of(answers), len(server.bodies) - len(server.refused)
    costs = accounts.cost_report(Ledger.at(tmp_path))
    if case in ("thoughts first", "parts", "no usage"):
        assert (tasks, sent, use.nothing) == (usual, COUNT, {})
        assert (costs["prompt_tokens"] is None) == (case == "no usage"), "unknown, never a number"
        return
    if case in ("empty", "tool call", "error in choice"):  # paid for, booked, and asked again
        kind = case.removesuffix(" in choice").replace(" ", "_")
        assert (tasks, sent, use.nothing, costs["calls"]) == (usual, COUNT + 1, {kind: 1}, COUNT + 1)
        return
    at = tasks.index(next(found for found, wanted in zip(tasks, usual, strict=True) if found != wanted))
    assert [*tasks[:at], *tasks[at + 1 :]] == [*usual[:at], *usual[at + 1 :]]
    assert sent == COUNT
    if case in ("cut", "only thoughts"):
        assert (answers[at].finished, answers[at].error) == (False, None), "as an answer that needs more room"
        assert use.nothing == ({} if case == "cut" else {"thoughts": 1})
        assert costs["calls"] == COUNT, "paid for"
    else:
        assert (answers[at].text, use.refused) == ("", 1)
        assert re.search("filter", answers[at].error or "")
        unpaid = case == "filtered" and SPECIES[name].filtered is not None
        assert (use.nothing, costs["calls"]) == (({}, COUNT - 1) if unpaid else ({"filtered": 1}, COUNT))


@pytest.mark.parametrize("case", ["only thoughts", "filtered", "empty", "tool call"])
@pytest.mark.parametrize("name", SPECIES)
def test_what_always_happens_ends_within_ten_calls_and_names_the_cure(name: str, case: str, tmp_path: Path) -> None:
    cures = {
        "only thoughts": r"teacher\.dialect\.extra to \{reasoning_effort: low\}",
        "filtered": r"the server's filter",
        "empty": r"teacher\.structured_output",
        "tool call": r"teacher\.structured_output to tool_call",
    }
    with (
        Zoo(by_words(), SPECIES[name], Quirks(case)) as server,
        pytest.raises(TeacherUnavailable, match=cures[case]),
    ):
        ask(recipe_at(server.url), tmp_path, count=200)
    assert len(server.bodies) - len(server.refused) <= 10
    assert Ledger.at(tmp_path).count() == 0


def test_the_cure_asks_again_what_had_no_answer_and_nothing_else(tmp_path: Path) -> None:
    with Zoo(by_words(), SPECIES["vllm"]) as server:
        ask(recipe_at(server.url), tmp_path, count=6)
        server.quirks = Quirks("only thoughts")
        sent = len(server.bodies)
        answers, use = ask(recipe_at(server.url), tmp_path, count=20)
        assert (use.reused, use.nothing, sum(not answer.text for answer in answers)) == (6, {"thoughts": 14}, 14)
        assert len(server.bodies) == sent + 14
        server.quirks = Quirks()  # the server is started again without thoughts
        answers, use = ask(recipe_at(server.url), tmp_path, count=20)
        assert (use.calls, use.reused) == (14, 6)
        assert len(server.bodies) == sent + 28
        assert all(answer.text for answer in answers)
        # The recipe's own cure shapes the answer, so it is another request.
        cured = recipe_at(server.url, {"extra": {"chat_template_kwargs": {"enable_thinking": False}}})
        ask(cured, tmp_path, count=3)
        assert server.bodies[-1]["chat_template_kwargs"] == {"enable_thinking": False}
        assert len(server.bodies) == sent + 31
        assert ask(cured, tmp_path, count=3)[1].calls == 0


def test_a_cure_in_the_recipe_keeps_the_answers_that_there_are(tmp_path: Path) -> None:
    cure = {"chat_template_kwargs": {"enable_thinking": False}}
    with Zoo(by_words(), SPECIES["openai_reasoning"]) as server:
        plain = recipe_at(server.url)
        ask(plain, tmp_path, count=6)
        server.quirks = Quirks("only thoughts")
        ask(plain, tmp_path, count=20)
        server.quirks, sent = Quirks(), len(server.bodies)
        teacher = plain.teacher.model_copy(update={"non_answers": NonAnswers(extra=cure)})
        cured = plain.model_copy(update={"teacher": teacher})
        answers, use = ask(cured, tmp_path, count=20)
        assert (use.calls, use.reused, use.nothing) == (14, 6, {})
        assert all(answer.text for answer in answers)
        assert [body["chat_template_kwargs"] for body in server.bodies[sent:]] == [{"enable_thinking": False}] * 14
        assert ask(cured, tmp_path, count=20)[1].calls == 0
    assert cured.teacher.shape() == recipe_at(server.url, {"extra": cure}).teacher.shape() != plain.teacher.shape()


def test_a_prompt_that_was_not_read_whole_ends_the_run(tmp_path: Path) -> None:
    long = "word " * 3000
    with Zoo(lambda body: "an answer", SPECIES["ollama"], Quirks(context=2050)) as server:
        recipe = recipe_at(server.url)
        teacher = Teacher(recipe, Ledger.at(tmp_path))
        with pytest.raises(
            TeacherUnavailable, match=r"2050 tokens read of a prompt of 3000 words.*OLLAMA_CONTEXT_LENGTH"
        ):
            teacher.ask(CONTEXT, teacher.requests([long] * 50, WARM))
        assert len(server.bodies) < 10
        assert Ledger.at(tmp_path).count() == 0
        assert accounts.cost_report(Ledger.at(tmp_path))["calls"] >= 1, "paid for all the same"
        unasked = Teacher(recipe_at(server.url, calls={**CALLS, "read_min": None}), Ledger.at(tmp_path))
        assert unasked.ask(CONTEXT, unasked.requests([long] * 2, WARM))[1].calls == 2


@pytest.mark.parametrize(
    "usage",
    [{}, {"prompt_tokens": -1, "completion_tokens": "7"}, {"prompt_tokens": 10**9, "completion_tokens": 10**12},
     {"prompt_tokens": True, "completion_tokens": None}, {"prompt_tokens": 1.5, "completion_tokens": [1]}],
)  # fmt: skip
def test_usage_that_is_no_number_is_unknown(usage: dict[str, Any], tmp_path: Path) -> None:
    with Zoo(by_words(), SPECIES["sglang"], Quirks(usage=usage)) as server:
        answers, _ = ask(recipe_at(server.url), tmp_path)
    assert {(answer.prompt_tokens, answer.output_tokens) for answer in answers} == {(None, None)}
    assert all(answer.text for answer in answers)


def test_tokens_read_from_a_cache_are_read(tmp_path: Path) -> None:
    usage = {"prompt_tokens": 1, "completion_tokens": 1, "prompt_tokens_details": {"cached_tokens": 4000}}
    with Zoo(lambda body: "an answer", SPECIES["openrouter"], Quirks(usage=usage)) as server:
        teacher = Teacher(recipe_at(server.url), Ledger.at(tmp_path))
        assert teacher.ask(CONTEXT, teacher.requests(["word " * 3000] * 3, WARM))[1].refused == 0


@pytest.mark.parametrize("what", ["warn", "stop"])
def test_another_model_behind_the_name_is_said(what: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with Zoo(by_words(), SPECIES["openrouter"], Quirks(served="model-of-may")) as server:
        recipe = recipe_at(
            server.url, calls={**CALLS, "model_changed": what, "concurrency_start": 1, "concurrency_max": 1}
        )
        teacher = Teacher(recipe, Ledger.at(tmp_path))

        def change(done: int, _total: int, _note: str) -> None:
            server.quirks = Quirks(served="model-of-june" if done >= 3 else "model-of-may")

        requests = teacher.requests(prompts(), WARM, SCHEMA)
        if what == "stop":
            with pytest.raises(TeacherUnavailable, match="answers as model-of-june, and answered as model-of-may"):
                teacher.ask(CONTEXT, requests, change)
            assert Ledger.at(tmp_path).count() >= 4
            return
        answers, use = teacher.ask(CONTEXT, requests, change)
    assert {answer.served for answer in answers} == {"model-of-may", "model-of-june"}
    assert set(use.metadata()["teacher_served"]) == {"model-of-may", "model-of-june"}
    assert "answers as model-of-june" in caplog.text
    kept = Ledger.at(tmp_path).lookup([request.key for request in requests])
    assert {answer.served for answer in kept.values()} == {"model-of-may", "model-of-june"}


def test_a_tool_call_is_read_where_it_was_asked_for(tmp_path: Path, usual: list[Any]) -> None:
    class Caller(Zoo):
        def _chat(self, body: dict[str, Any]) -> tuple[int, Any]:
            status, value = super()._chat(body)
            if status == 200 and "tools" in body:
                assert body["tool_choice"]["function"]["name"] == body["tools"][0]["function"]["name"] == "answer"
                message = value["choices"][0]["message"]
                call = {"type": "function", "function": {"name": "answer", "arguments": message["content"]}}
                value["choices"][0] |= {"finish_reason": "tool_calls"}
                message |= {"content": None, "tool_calls": [call]}
            return status, value

    with Caller(by_words(), SPECIES["anthropic"]) as server:
        recipe = recipe_at(server.url)
        teacher = recipe.teacher.model_copy(update={"structured_output": "tool_call"})
        answers, _ = ask(recipe.model_copy(update={"teacher": teacher}), tmp_path)
    assert tasks_of(answers) == usual
    assert all(answer.finished for answer in answers)


def test_what_the_recipe_fixes_is_never_changed(tmp_path: Path) -> None:
    with Zoo(by_words(), SPECIES["openai_reasoning"]) as server:
        fixed = recipe_at(server.url, {"token_field": "max_tokens"})
        with pytest.raises(TeacherUnavailable, match=r"refused the first 8 requests.*teacher\.dialect\.token_field"):
            ask(fixed, tmp_path, count=30)
        assert {body["max_tokens"] for body in server.bodies} == {900}
        sent = len(server.bodies)
        with pytest.raises(TeacherUnavailable, match="refused the first 8 requests"):
            ask(recipe_at(server.url, {"probe": False}), tmp_path, count=30)
        assert len(server.bodies) == sent + 8


def test_a_server_that_refuses_everything_is_given_up_after_eight_calls(tmp_path: Path) -> None:
    class Never(Zoo):
        def _chat(self, body: dict[str, Any]) -> tuple[int, Any]:
            return 422, {"detail": "unsupported field"}

    with (
        Never(by_words(), SPECIES["vllm"]) as server,
        pytest.raises(TeacherUnavailable, match=r"set teacher\.dialect|see teacher\.dialect"),
    ):
        ask(recipe_at(server.url), tmp_path, count=100)
    assert len(server.bodies) <= PROBE_CALLS_MAX + 8


def test_the_table_in_the_docs_has_every_server_and_case() -> None:
    assert set(TABLE) == set(SPECIES)
    text = (PROJECT / "docs" / "teachers.md").read_text()
    cases = " ".join(line for line in text.splitlines() if re.match(r"\| \w[\w ,]*(\(once\) )?\|", line))
    assert all(case in cases for case in ONCE)


def test_batches_are_asked_in_the_dialect_that_one_call_found(tmp_path: Path, usual: list[Any]) -> None:
    with Zoo(by_words(), SPECIES["openai_reasoning"]) as server:
        recipe = recipe_at(server.url, calls={**CALLS, "mode": "batch", "batch_poll_s": 0.02})
        answers, use = ask(recipe, tmp_path)
        assert tasks_of(answers) == usual
        assert (use.calls, use.refused, len(server.refused)) == (COUNT, 0, TABLE["openai_reasoning"][0] - 1)
        assert [entry.batch for entry in server.served if entry.status == 200] == [False, *[True] * (COUNT - 1)]
        server.quirks = Quirks("only thoughts")
        with pytest.raises(TeacherUnavailable, match="reasoning_effort"):
            ask(recipe, tmp_path, GREEDY, count=40)
        server.quirks = Quirks()
        sent = len(server.served)
        answers, use = ask(recipe, tmp_path, GREEDY, count=40)
        assert (use.refused, use.nothing) == (0, {})
        assert len(server.served) == sent + 40, (
            "what brought nothing is asked again, and its batch is not collected twice"
        )
