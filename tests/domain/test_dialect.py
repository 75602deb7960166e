"""Dialects without a server: bodies, what shapes an answer, and where the search goes."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resources.ledger.calls import TeacherRequest
from speed_assets.domain.dialect import PLAIN, Dialect, Refusal, dialect_from, next_dialect
from speed_assets.domain.dialect_presets import PRESETS, preset_for
from speed_assets.domain.prompts import schema_for
from speed_assets.domain.replies import read_completion, sane_prompt_tokens

WARM = {"temperature": 1.0, "top_p": 1.0, "max_new_tokens": 100, "structured_output": "json_schema"}
REQUEST = TeacherRequest("prompt", "m", None, "https://host/v1", WARM, schema_for("revise", "sts"))
OLD_KEY = "d4e7727e8b1f76d66593577eb3332f57fb30049cfd4799da4acb0a6193e27fa1"
"""Its name by the version that had one dialect (commit bb32bb7): ledgers of then are used."""
COLD = replace(REQUEST, parameters={**WARM, "temperature": 0.0, "top_p": 0.9})
DIALECTS = [
    Dialect(token, temperature, top_p, seed, structure, strict, closed)  # type: ignore[arg-type]
    for token in ("max_tokens", "max_completion_tokens")
    for temperature, top_p in (("always", "unless_default"), ("never", "never"))
    for seed, strict, closed in ((True, True, True), (False, False, False))
    for structure in ("json_schema", "json_object", "tool_call", "structured_outputs", "none")
]


def test_the_default_dialect_names_requests_as_they_were_named_before() -> None:
    assert REQUEST.in_dialect(PLAIN).key == REQUEST.key == OLD_KEY
    assert "dialect" not in REQUEST.in_dialect(PLAIN).parameters


@pytest.mark.parametrize(
    "spelled",
    [Dialect("max_completion_tokens"), Dialect(seed=False), Dialect(top_p="unless_default"), Dialect(temperature="never"),
     Dialect(additional_properties=False)],
)  # fmt: skip
def test_what_only_spells_a_request_is_not_in_its_name(spelled: Dialect) -> None:
    assert REQUEST.in_dialect(spelled).key == REQUEST.key
    assert REQUEST.in_dialect(spelled).body() != REQUEST.in_dialect(PLAIN).body()


@pytest.mark.parametrize(
    ("request_", "shaping"),
    [
        (COLD, Dialect(temperature="never")),
        (COLD, Dialect(top_p="never")),
        (REQUEST, Dialect(structure="json_object")),
        (REQUEST, Dialect(strict=False)),
        (REQUEST, Dialect(extra={"reasoning_effort": "low"})),
    ],
)
def test_what_shapes_an_answer_is_in_its_name(request_: TeacherRequest, shaping: Dialect) -> None:
    spoken = request_.in_dialect(shaping)
    assert spoken.key != request_.key
    assert spoken.in_dialect(PLAIN).key == request_.key, "and can be told without"


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("request_", [REQUEST, COLD, replace(REQUEST, schema=None)])
def test_no_body_holds_null_and_each_says_how_long_an_answer_may_be(dialect: Dialect, request_: TeacherRequest) -> None:
    body = request_.in_dialect(dialect).body()
    assert None not in body.values()
    assert body[dialect.token_field] == 100
    assert json.loads(json.dumps(body)) == body
    assert dialect_from({**dialect.as_json()}) == dialect


REFUSALS = [
    (
        {"param": "max_tokens", "message": "Use 'max_completion_tokens' instead."},
        {"token_field": "max_completion_tokens"},
    ),
    ({"message": "max_tokens is too large: 5000. This model supports at most 4096 completion tokens"}, None),
    ({"message": "`temperature` and `top_p` cannot both be specified for this model."}, {"top_p": "unless_default"}),
    ({"message": "`temperature` is deprecated for this model."}, {"temperature": "never"}),
    ({"message": 'Unknown name "seed": Cannot find field.'}, {"seed": False}),
    ({"message": '{"loc": ["body", "seed"]}, {"loc": ["body", "top_p"]}'}, {"seed": False, "top_p": "unless_default"}),
    ({"message": "This response_format type is unavailable now"}, {"structure": "json_object"}),
    ({"message": 'Unknown name "additionalProperties"'}, {"additional_properties": False, "strict": False}),
    ({"message": "Request contains an invalid argument."}, {"seed": False}),
    ({"message": "The model `x` does not exist", "code": "model_not_found"}, None),
    ({"message": "prompt is too long: 9000 tokens"}, None),
    ({"message": ""}, None),
]


@pytest.mark.parametrize(("said", "changed"), REFUSALS)
def test_a_refusal_changes_what_it_names(said: dict[str, str], changed: dict[str, Any] | None) -> None:
    found = next_dialect(PLAIN, Refusal(**{"status": 400, "message": "", **said}), REQUEST.body())  # type: ignore[arg-type]
    assert found == (None if changed is None else replace(PLAIN, **changed))


@pytest.mark.parametrize("status", [401, 403, 408, 409, 429, 503])
def test_what_is_no_refusal_of_a_body_changes_nothing(status: int) -> None:
    assert (
        next_dialect(PLAIN, Refusal(status, "unsupported parameter max_tokens", "max_tokens"), REQUEST.body()) is None
    )


@given(
    st.lists(
        st.sampled_from(
            ["max_tokens", "max_completion_tokens", "temperature", "top_p", "seed", "response_format", "additionalProperties",
             "strict", "anyOf", "tools", "unsupported", "bad request", "required", "both", "must be 'json_schema'"]
        ),
        max_size=4,
    ),
    st.sampled_from(DIALECTS),
)  # fmt: skip
def test_the_search_ends_whatever_is_refused(words: list[str], dialect: Dialect) -> None:
    steps, now = 0, dialect
    while (found := next_dialect(now, Refusal(400, " ".join(words)), COLD.in_dialect(now).body())) is not None:
        assert found != now
        before, now, steps = now, found, steps + 1
        if steps > 8:  # two that only spell may take turns; the calls are counted
            spelled = replace(before, token_field=found.token_field)
            assert spelled == found or "must be 'json_schema'" in words or "required" in words
            break


def test_presets_are_known_by_their_address_and_say_where_they_were_read() -> None:
    assert preset_for("https://api.openai.com/v1", "gpt-4.1") == "openai"
    assert (
        preset_for("https://api.openai.com/v1", "gpt-5-mini")
        == preset_for("https://api.openai.com/v1", "o3")
        == "openai_reasoning"
    )
    assert preset_for("https://mine.openai.azure.com/openai/v1", "gpt-4.1") == "azure"
    assert preset_for("http://localhost:11434/v1", "qwen3") == "ollama"
    assert (
        preset_for("http://127.0.0.1:8000/v1", "x") is preset_for("https://evil-api.openai.com.example/v1", "x") is None
    )
    assert preset_for("http://[::1", "x") is None
    assert all(preset.source for preset in PRESETS.values())


# Replies


@given(st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(["choices", "message", "content", "finish_reason", "tool_calls", "function", "arguments", "name",
                         "usage", "prompt_tokens", "error", "text", "type", "model", "reasoning", "refusal"]),
        inner, max_size=4),
))  # fmt: skip
def test_any_value_is_read_as_something(value: Any) -> None:
    reply = read_completion(value, tool_asked=True)
    assert reply.text == "" or reply.kind in ("answer", "cut")


@pytest.mark.parametrize(
    ("message", "reason", "kind"),
    [
        ({"content": "<think>so</think>"}, "stop", "thoughts"),
        ({"content": "<think>so and so"}, "length", "thoughts"),
        ({"content": "<think>so</think>yes"}, "stop", "answer"),
        ({"content": " \n"}, "stop", "empty"),
        ({"content": ""}, "stop", "empty"),
        ({"content": "half an ans"}, "model_length", "cut"),
        ({"content": "x"}, "SAFETY", "filtered"),
        ({"content": "x"}, "insufficient_system_resource", "error"),
        ({"content": {"text": "x"}}, "stop", "unreadable"),
        ({"content": [{"type": "thinking", "thinking": []}]}, "stop", "thoughts"),
    ],
)
def test_each_reply_has_a_name(message: dict[str, Any], reason: str, kind: str) -> None:
    assert read_completion({"choices": [{"message": message, "finish_reason": reason}]}).kind == kind


def test_more_tokens_than_a_prompt_can_have_are_no_number() -> None:
    assert sane_prompt_tokens(5000, 100) is None
    assert sane_prompt_tokens(400, 100) == 400
    assert sane_prompt_tokens(None, 100) is None
