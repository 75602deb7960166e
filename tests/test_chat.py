"""Request bodies, replies and pacing of the chat protocol, without a server."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resources.teacher.chat import read_reply
from resources.teacher.pacing import Pace, parse_duration, retry_after
from speed_assets.domain.dialect import Dialect, Structure, strict_schema
from speed_assets.domain.parsing import parse_revision
from speed_assets.domain.prompts import schema_for
from tests.support.endpoint_calls import FAST, KEY, requests, teacher_at


def test_the_strict_schema_is_what_openai_takes_and_what_the_parsers_read() -> None:
    tasks = strict_schema(schema_for("brainstorm", "sts"))
    assert (tasks["type"], tasks["properties"]["tasks"]["type"]) == ("object", "array")
    patch = strict_schema(schema_for("revise", "sts"))["properties"]["revision"]["anyOf"][0]
    assert patch["required"] == list(patch["properties"])
    assert {"type": "null"} in patch["properties"]["S1"]["anyOf"]
    assert parse_revision("sts", '{"reason": "r", "revision": {"S1": null, "S2": "x", "S3": null}}').changes == {
        "S2": "x"
    }


@pytest.mark.parametrize(
    ("mode", "kind"), [("json_schema", "json_schema"), ("json_object", "json_object"), ("none", None)]
)
def test_structured_output_is_asked_for_as_the_recipe_says(mode: Structure, kind: str | None) -> None:
    request = requests(1, schema=schema_for("synthesis", "sts"))[0].in_dialect(Dialect(structure=mode))
    assert request.body().get("response_format", {}).get("type") == kind
    assert "response_format" not in replace(request, schema=None).body()


def test_a_seed_tells_samples_apart_and_not_endpoints() -> None:
    request = requests(1)[0]
    seed = request.body()["seed"]
    assert 0 <= seed < 2**31
    assert replace(request, endpoint="there").body()["seed"] == seed
    assert replace(request, sample=1).body()["seed"] != seed
    assert "seed" not in replace(request, parameters={**request.parameters, "temperature": 0.0}).body()


TEACHER = teacher_at("https://host/v1", key_variable="KEY")


@pytest.mark.parametrize(
    ("status", "body", "kind", "words"),
    [
        (200, {"choices": [{"message": {"content": "x"}}]}, "answered", "x"),
        (
            200,
            {"choices": [{"message": {"content": ""}, "finish_reason": "length"}]},
            "nothing",
            "no answer (thoughts)",
        ),
        (200, {"choices": [{"message": {"content": None, "refusal": "no"}}]}, "nothing", "no answer (filtered): no"),
        (200, {"choices": [{"message": {"content": [{"type": "text", "text": "a"}]}}]}, "answered", "a"),
        (200, {"choices": [{"message": {"content": "\ud800"}}]}, "answered", "?"),
        (200, {"choices": []}, "again", "no chat completion"),
        (200, {"choices": [{"message": {"content": 5}}]}, "again", "no chat completion"),
        (200, {"error": {"code": 429, "message": "upstream"}}, "again", "upstream"),
        (200, b"[" * 100_000, "again", "no chat completion"),
        (200, b"\xff\xfe", "again", "no chat completion"),
        (429, {"error": {"code": "insufficient_quota", "message": "pay"}}, "hopeless", "has no money left"),
        (529, b"", "again", "529: no words"),
        (409, {"detail": [{"loc": 1}]}, "again", "loc"),
        (403, {"error": "no"}, "hopeless", "the teacher at https://host/v1 refuses the key in KEY"),
        (422, {"message": "y" * 900}, "refused", "422: yyy"),
    ],
)
def test_replies_are_read_as_what_they_mean(status: int, body: Any, kind: str, words: str) -> None:
    outcome = read_reply(status, body, TEACHER, None)
    assert outcome.kind == kind
    assert words in (outcome.answer.text if kind == "answered" and outcome.answer else outcome.words)
    assert len(outcome.words) < 420
    assert "secret" not in outcome.words


@given(st.integers(200, 599), st.binary(max_size=200) | st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(
        st.sampled_from(["choices", "message", "content", "error", "usage", "prompt_tokens", "code", "type", "text"]),
        inner, max_size=3,
    ),
))  # fmt: skip
def test_any_reply_is_read_without_an_exception(status: int, body: Any) -> None:
    read_reply(status, body, TEACHER, KEY)


@pytest.mark.parametrize(("said", "read"), [(7, 7), (2**31 - 1, 2**31 - 1), (2**31, None), (10**30, None), (-1, None)])
def test_numbers_of_tokens_that_no_database_holds_are_unknown(said: int, read: int | None) -> None:
    body = {"choices": [{"message": {"content": "text"}}], "usage": {"prompt_tokens": said, "completion_tokens": 1}}
    outcome = read_reply(200, body, TEACHER, None)
    assert outcome.answer is not None
    assert (outcome.answer.text, outcome.answer.prompt_tokens, outcome.answer.output_tokens) == ("text", read, 1)


def test_waits_are_read_from_headers() -> None:
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True)
    assert 28 < (retry_after({"retry-after": date}) or 0) <= 30
    assert retry_after({"retry-after": "2", "retry-after-ms": "1500"}) == 1.5
    assert retry_after({"retry-after": "soon"}) is None
    assert retry_after({}) is None
    assert parse_duration("1h2m3.5s") == 3723.5
    assert parse_duration("soon 5s") is None


def test_the_limit_halves_once_for_what_was_in_flight_together() -> None:
    pace = Pace(FAST.model_copy(update={"concurrency_start": 16, "backoff_max_s": 10.0}))
    pace.record_overload(sent_at=1.0, now=2.0)
    pace.record_overload(sent_at=1.5, now=2.1)
    assert pace.limit == 8
    for _ in range(10):
        pace.record_answer()
    assert pace.limit == 9
    for now in range(3, 20):
        pace.record_overload(sent_at=now + 0.5, now=float(now + 1))
    assert pace.limit == 1
    for _ in range(10_000):
        pace.record_answer()
    assert pace.limit == 64
    pace.obey_headers({"retry-after": "3600"}, now=100.0, refused=True, tokens=1)
    assert pace.open_at == 110.0


def test_jitter_is_full_and_named_by_the_request() -> None:
    pace = Pace(FAST.model_copy(update={"backoff_s": 1.0, "backoff_max_s": 8.0}))
    waits = [pace.backoff(f"key {i}", 3) for i in range(400)]
    assert 0 <= min(waits) < 0.2
    assert 3.8 < max(waits) <= 4.0
    assert waits[0] == pace.backoff("key 0", 3)
    assert max(pace.backoff("key", n) for n in range(1, 200)) <= 8.0
