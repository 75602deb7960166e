"""Probes of the teacher's endpoint: the key, what the server says it is, and one paid call of one token.

The call is booked in the ledger under the stage `doctor`, and finds out how the server wants to be asked as a run does
(`resources/teacher/known_dialects.py`), so the run need not. What it found is kept in `probes.json` of the home for some
hours. Belongs here: those probes. Not here: dialects, replies, the words of errors (`resources/teacher/`).
"""

from __future__ import annotations

import json
import os
import re
import time
import uuid
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

import httpx2

from resources.ledger.calls import CallContext, CapReached, TeacherUnavailable
from resources.ledger.ledger import Ledger
from resources.store.store import write_atomically
from resources.teacher.chat import endpoint_name, key_problem, read_reply, redact_and_shorten
from resources.teacher.engines import teacher_headers, teacher_key
from resources.teacher.known_dialects import DialectBook
from resources.teacher.teacher import Teacher
from resources.teacher.unpacking import BodyLimit
from speed_assets.domain.fingerprints import digest
from speed_assets.domain.prompts import schema_for
from speed_assets.orchestration.doctor.finding import Finding, error, ok, warning
from speed_assets.recipe import Recipe, RecipeError, Sampling

FILE = "probes.json"
FRESH_S = 6 * 3600.0
"""Seconds for which a paid probe is not made again for the same settings (ours: a working day has two)."""
STAGE = "doctor"
"""Stage under which the ledger books the paid call."""
_LIST_S = 5.0
_LIST_BYTES = 4_000_000
_CALL_S = 10.0
"""Seconds for the paid call, all its repetitions together."""
_CLOCK_S = 120.0
"""Seconds by which two clocks may differ (ours: a reply takes a few)."""
_PROBE_TOKENS = (1, 16)
"""Tokens of the paid call, and of another where a server refuses so few (OpenAI's Responses API takes 16 at least)."""
_WANTS_MORE_TOKENS = re.compile(
    r"(?i)token.*\b(?:minimum|at least|greater|below|too (?:small|low|few)|>=?)|\b(?:minimum|at least|below)\b.*token"
)
_PROMPT = "Write the one word yes, without brackets or quotes. (This checks a connection: {})"


def key(recipe: Recipe) -> list[Finding]:
    """The key, and the values of further headers, are in the environment and can be sent."""
    if not recipe.asks_teacher():
        return [ok("key", "no stage asks the teacher")]
    if recipe.teacher.engine != "openai":
        return [ok("key", f"teacher.engine={recipe.teacher.engine} wants none")]
    field = "teacher.key_variable"
    try:
        value = teacher_key(recipe)
        teacher_headers(recipe)
    except RecipeError as problem:
        missing = recipe.teacher.key_variable or ""
        return [
            error("key", str(problem), f"export {missing}=... (or {field})" if missing else "teacher.dialect.headers")
        ]
    if wrong := key_problem(recipe.teacher, value):
        return [error("key", wrong, f"export {recipe.teacher.key_variable}=...")]
    return [ok("key", f"in {recipe.teacher.key_variable}" if value else "none, and none is named")]


def endpoint(recipe: Recipe, home: Path) -> list[Finding]:
    """What the server says it is, whether it has the model, its clock, and what comes of one call of one token."""
    if recipe.teacher.engine != "openai" or not recipe.asks_teacher():
        return []
    if any(finding.status == "error" for finding in key(recipe)):
        return []
    listed = _Listed.of(recipe)
    found = [*listed.findings(recipe)]
    if any(finding.status == "error" for finding in found):
        return found
    return [*found, *_asked(recipe, home)]


@dataclass(frozen=True, slots=True)
class _Listed:
    """What `/v1/models` brought."""

    status: int | None
    """None: no reply came."""
    trouble: str = ""
    names: tuple[str, ...] = ()
    date: float | None = None
    """Seconds, by the server's clock."""
    came: float = 0.0
    location: str | None = None
    body: bytes = b""
    connected: bool = True
    """Whether there is a server at the address."""

    @classmethod
    def of(cls, recipe: Recipe) -> _Listed:
        url = f"{(recipe.teacher.endpoint or '').rstrip('/')}/models"
        headers = {"Authorization": f"Bearer {teacher_key(recipe) or 'none'}", **teacher_headers(recipe)}
        hooks = BodyLimit(lambda _request: _LIST_BYTES, lambda _request: _LIST_S).hooks()
        try:
            with httpx2.Client(timeout=_LIST_S, follow_redirects=False, event_hooks=hooks) as client:
                reply = client.get(url, headers=headers)
        except (httpx2.HTTPError, ValueError) as problem:
            return cls(
                None,
                f"{type(problem).__name__}: {redact_and_shorten(str(problem), _secrets(recipe))}",
                came=time.time(),
                connected=not isinstance(
                    problem, httpx2.ConnectError | httpx2.ConnectTimeout | httpx2.UnsupportedProtocol
                ),
            )
        return cls(
            reply.status_code,
            names=_names(reply.content),
            date=_date(reply.headers.get("date")),
            came=time.time(),
            location=reply.headers.get("location"),
            body=reply.content,
        )

    def findings(self, recipe: Recipe) -> list[Finding]:
        teacher = recipe.teacher
        if self.status is None and not self.connected:
            words = f"{endpoint_name(teacher)} does not answer ({self.trouble})"
            return [error("endpoint", words, "start it, or teacher.endpoint")]
        if self.status is None:  # a list that is slow or too long says nothing of calls
            return [warning("server", f"its list of models could not be read ({self.trouble})", "teacher.endpoint")]
        if self.status in (401, 402, 403) or 300 <= self.status < 400:
            outcome = read_reply(self.status, self.body, teacher, _secrets(recipe), location=self.location)
            field = "teacher.endpoint" if self.status < 400 else "teacher.key_variable"
            if self.status in (401, 402) or self._elsewhere(teacher.endpoint or ""):
                return [error("endpoint", outcome.words, field)]
            # A key may be allowed to call models and not to list them; the call shows it.
            return [warning("server", f"its list of models: {outcome.words}", field)]
        return [*self._model(recipe), *self._clock()]

    def _elsewhere(self, endpoint: str) -> bool:
        """Whether the reply points to another server, which is never followed with a key."""
        return (
            300 <= (self.status or 0) < 400
            and urlsplit(urljoin(endpoint, self.location or "")).netloc != urlsplit(endpoint).netloc
        )

    def _model(self, recipe: Recipe) -> list[Finding]:
        panel = recipe.preference_pairs.panel if recipe.preference_pairs else ()
        if not self.names:
            return [ok("server", "lists no models at this address")]
        missing = [name for name in dict.fromkeys((recipe.teacher.model, *panel)) if not _lists(self.names, name)]
        if missing:
            some = ", ".join(self.names[:5]) + (f" and {len(self.names) - 5} more" if len(self.names) > 5 else "")
            words = (
                f"the server does not list {', '.join(missing)}; it lists {redact_and_shorten(some, _secrets(recipe))}"
            )
            return [
                warning(
                    "server", words, "teacher.model" if recipe.teacher.model in missing else "preference_pairs.panel"
                )
            ]
        return [ok("server", f"lists {recipe.teacher.model} among {len(self.names)} models")]

    def _clock(self) -> list[Finding]:
        if self.date is None:
            return []
        apart = self.date - self.came
        if abs(apart) > _CLOCK_S:
            words = f"this clock is {abs(apart) / 60:,.0f} minutes {'behind' if apart > 0 else 'ahead of'} the server's"
            return [warning("server clock", words, "timedatectl set-ntp true")]
        return [ok("server clock", "agrees with this one")]


def _names(body: bytes) -> tuple[str, ...]:
    """Ids of the models in a list; none in anything else."""
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return ()
    entries = value.get("data", value.get("models")) if isinstance(value, dict) else value
    names = (
        [entry.get("id", entry.get("name")) for entry in entries or () if isinstance(entry, dict)]
        if isinstance(entries, list)
        else []
    )
    return tuple(name for name in names if isinstance(name, str))[:10_000]


def _lists(names: tuple[str, ...], model: str) -> bool:
    """Whether a list has a model, under the spellings that servers give one: `models/NAME` (Gemini), `NAME:latest` (Ollama),
    `OWNER/NAME` (vLLM, OpenRouter), a date at its end."""
    wanted = model.casefold()
    for name in map(str.casefold, names):
        if name in (wanted, f"models/{wanted}", f"{wanted}:latest", wanted.partition(":")[0]):
            return True
        if name.endswith(f"/{wanted}") or name.startswith(f"{wanted}-"):
            return True
    return False


def _date(header: str | None) -> float | None:
    try:
        return parsedate_to_datetime(header).timestamp() if header else None
    except (TypeError, ValueError, OverflowError):
        return None


def _secrets(recipe: Recipe) -> tuple[str, ...]:
    return tuple(filter(None, (teacher_key(recipe), *teacher_headers(recipe).values())))


def _asked(recipe: Recipe, home: Path) -> list[Finding]:
    """What comes of one call of one token, or what came of it some hours ago."""
    try:
        home.mkdir(parents=True, exist_ok=True)
    except OSError:
        return []  # nothing could be booked; the home's own probe reports it
    before = _kept(home).get(_section(recipe), {})
    if time.time() - _number(before.get("at")) < FRESH_S and before.get("good"):
        hours = (time.time() - _number(before.get("at"))) / 3600
        return [ok("answer", f"asked {hours:.1f} h ago, not again")]
    for tokens in _PROBE_TOKENS:
        found, now = _ask_once(recipe, home, tokens)
        if not any(finding.status == "error" and _WANTS_MORE_TOKENS.search(finding.line) for finding in found):
            break
    served, was = now.get("served"), before.get("served")
    if served and was and served != was:
        words = f"the server answers as {served}, and answered as {was} when it was last asked"
        found.append(warning("model behind", words, "a dated name in teacher.model, or calls.model_changed: stop"))
    _keep(home, _section(recipe), now)
    return found


def _ask_once(recipe: Recipe, home: Path, tokens: int) -> tuple[list[Finding], dict[str, Any]]:
    """Ask, and what it says: findings, and what is kept of it."""
    quick = {"mode": "online", "breaker_s": _CALL_S, "timeout_s": _CALL_S, "backoff_max_s": 1.0, "stop_after": 1}
    changes = {
        "calls": recipe.calls.model_copy(update=quick),
        "teacher": recipe.teacher.model_copy(
            update={"non_answers": recipe.teacher.non_answers.model_copy(update={"attempts": 1})}
        ),
    }
    hasty = recipe.model_copy(update=changes)
    seeds = recipe.graph().get("seed_data")  # none where rows or models are given
    schema = schema_for("synthesis", seeds.task_types[0] if seeds and seeds.task_types else "retrieval")
    sampling = Sampling(
        temperature=recipe.seed_data.sampling.temperature, top_p=recipe.seed_data.sampling.top_p, max_new_tokens=tokens
    )
    at: dict[str, Any] = {"at": time.time(), "good": False}
    try:
        book = DialectBook(hasty.teacher, home)
        teacher = Teacher(hasty, Ledger.at(home), dialects=book)
        requests = teacher.requests([_PROMPT.format(uuid.uuid4().hex[:8])], sampling, schema)
        answers, use = teacher.ask(CallContext(f"{STAGE}-{uuid.uuid4().hex[:8]}", STAGE), requests)
    except (TeacherUnavailable, RecipeError, CapReached) as problem:
        found = _unanswered(recipe, problem)
        return found, at | {"good": all(finding.status == "ok" for finding in found)}
    answer = answers[0]
    if answer.error and not answer.without_answer:
        words = f"the server refuses a call: {answer.error}"
        return [error("answer", words, "teacher.dialect, or teacher.model")], at
    asked_with = use.asked_with.get(recipe.teacher.model)
    served = f", as {redact_and_shorten(answer.served, _secrets(recipe))}" if answer.served else ""
    words = f"{recipe.teacher.model} answers{served}" + (f"; it is asked with {asked_with}" if asked_with else "")
    structure = book.dialect(recipe.teacher.model).structure
    kept = at | {"good": True, "served": redact_and_shorten(answer.served, _secrets(recipe)) if answer.served else None}
    return [ok("answer", words), _structured(structure, answer.text)], kept


def _unanswered(recipe: Recipe, problem: Exception) -> list[Finding]:
    words = str(problem)
    if isinstance(problem, CapReached):
        return [warning("answer", f"no call is left for the probe: {words}", "money")]
    field = "teacher.endpoint"
    for hint, name in (
        ("does not know the model", "teacher.model"),
        ("refuses the key", "teacher.key_variable"),
        ("call without a key", "teacher.key_variable"),
        ("no money left", "the account's credit"),
        ("gave no answer", "teacher.dialect.extra, or teacher.model"),
        ("refused", "teacher.dialect"),
    ):
        if hint in words:
            field = name
            break
    if "gave no answer" in words and "(thoughts)" in words:
        return [ok("answer", f"{recipe.teacher.model} thinks before it answers: one token shows no more")]
    return [error("answer", words, field)]


def _structured(structure: str, text: str) -> Finding:
    """Whether the first token is that of a JSON object, though the prompt asks for a word: then the form is enforced."""
    name = "structured output"
    if structure == "none":
        return warning(
            name, "the server takes no form: answers are parsed, and more of them are rejected", "teacher.model"
        )
    first = text.lstrip()[:1]
    if first in ("{", "["):
        return ok(name, f"{structure} is enforced")
    if not first:
        return ok(name, f"{structure} is taken; one token does not show whether it is enforced")
    words = f"{structure} is taken and not enforced: an answer began with {text.strip()[:20]!r}"
    return warning(name, words, "teacher.structured_output: tool_call, or more seed_data.attempts")


def _section(recipe: Recipe) -> str:
    """The name of the settings, the key among them, that a probe is good for."""
    return digest([recipe.teacher.model_dump(mode="json", exclude={"error_rates"}), *_secrets(recipe)])[:16]


def _kept(home: Path) -> Mapping[str, Any]:
    try:
        value = json.loads((home / FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return {name: entry for name, entry in value.items() if isinstance(entry, dict)} if isinstance(value, dict) else {}


def _keep(home: Path, section: str, entry: Mapping[str, Any]) -> None:
    """Processes may write at the same time: what one of them loses is asked again."""
    if home.is_dir() and os.access(home, os.W_OK):
        with suppress(OSError):
            write_atomically(
                home / FILE, json.dumps({**_kept(home), section: dict(entry)}, indent=1, sort_keys=True) + "\n"
            )


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else 0.0
