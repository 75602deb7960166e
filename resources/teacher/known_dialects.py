"""What was found out about how servers want to be asked: kept in the home, and used again.

`teachers.json` holds, for each address and model, the dialect that differs from where the search began, and the kinds of
request that the server has taken in it. No key and no header's value is in it. Take an entry out to have it found out again.

Belongs here: keeping what was found, and finding it out with the help of a way to send. Not here: what a dialect is
(`domain/dialect.py`), how a request is sent (`endpoint.py`).
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from resources.ledger.calls import TeacherAnswer, TeacherRequest, TeacherUnavailable
from speed_assets.domain.dialect import PLAIN, Dialect, dialect_from, next_dialect
from speed_assets.domain.fingerprints import digest
from speed_assets.recipe import Teacher

DIALECTS_FILE = "teachers.json"
PROBE_CALLS_MAX = 8
"""Refused calls that finding out may take, for one model in one process."""
_KINDS_KEPT = 64
LOG = logging.getLogger("speed.teacher")


def request_kind(request: TeacherRequest) -> str:
    """Requests of one kind are taken or refused alike: by their schema, and by which numbers of sampling are the default's."""
    parameters = request.parameters
    named = [request.schema, parameters["temperature"], parameters["top_p"], parameters.get("structured_output")]
    return digest(named)[:12]


@dataclass(frozen=True, slots=True)
class _Entry:
    begun: Dialect
    """Where the search began; with another beginning it is to be done again."""
    dialect: Dialect
    taken: tuple[str, ...] = ()


class DialectBook:
    """Dialects by endpoint and model, for this recipe's teacher. Without a home nothing outlives the process."""

    def __init__(self, teacher: Teacher, home: Path | None = None) -> None:
        self._teacher = teacher
        self._file = home / DIALECTS_FILE if home else None
        self._calls: dict[str, int] = {}
        self._entries = {name: entry for name, value in self._read().items() if (entry := _entry(value))}

    def dialect(self, model: str) -> Dialect:
        """The dialect that a model at the endpoint is asked in: what was found, under what the recipe says."""
        entry = self._entry(model)
        return replace(entry.dialect, **self._teacher.dialect.fixed()) if entry else self._teacher.first_dialect(model)

    def is_accepted(self, request: TeacherRequest) -> bool:
        """Whether the server has taken a request of this kind."""
        entry = self._entry(request.model)
        return entry is not None and request_kind(request) in entry.taken

    def probe(
        self, request: TeacherRequest, send: Callable[[TeacherRequest], TeacherAnswer]
    ) -> tuple[TeacherRequest, TeacherAnswer]:
        """Send a request alone, and otherwise as long as the server refuses how it is said.

        Args:
            request: the first of its kind.
            send: sends a request; its answer may be a refusal.

        Returns:
            The request as it was last sent, and what came: an answer, or a refusal that has another reason.

        Raises:
            TeacherUnavailable: `CALLS_MAX` calls were refused.
        """
        fixed = frozenset(self._teacher.dialect.fixed())
        while True:
            answer = send(request)
            if answer.refusal is None:
                if answer.error is None or answer.without_answer:  # a filter says nothing of the rest of the body
                    self._keep(request)
                return request, answer
            words = answer.refusal.message.replace(request.prompt, "")  # an echoed prompt may name any field
            other = next_dialect(request.dialect, replace(answer.refusal, message=words), request.body(), fixed)
            if other is None:
                return request, answer
            name = self._name(request.model)
            self._calls[name] = self._calls.get(name, 0) + 1
            if self._calls[name] >= PROBE_CALLS_MAX:
                raise TeacherUnavailable(
                    f"{PROBE_CALLS_MAX} calls did not find out how {self._teacher.endpoint} wants {request.model} to be asked; it "
                    f"was last asked with {request.dialect.in_words()}, and said {answer.error}: set teacher.dialect"
                )
            request = request.in_dialect(other)

    def forget(self, model: str) -> bool:
        """Drop what was found of a model, as its server now refuses it. Returns whether there was anything."""
        there = self._entries.pop(self._name(model), None) is not None
        if there:
            self._write(self._name(model), None)
        return there

    def _keep(self, request: TeacherRequest) -> None:
        name, plain = self._name(request.model), replace(request.dialect, extra={})
        before, begun = self._entry(request.model), self._begun(request.model)
        taken = before.taken if before and before.dialect == plain else ()
        entry = _Entry(begun, plain, (*taken, request_kind(request))[-_KINDS_KEPT:])
        self._entries[name] = entry
        self._write(name, entry)
        if plain != (before.dialect if before else begun):
            kept = f"; kept in {self._file}" if self._file else ""
            LOG.warning(
                "%s: %s is asked with %s, as its server wants it (%d calls were refused%s)",
                self._teacher.endpoint,
                request.model,
                request.dialect.in_words(),
                self._calls.get(name, 0),
                kept,
            )

    def _begun(self, model: str) -> Dialect:
        return replace(self._teacher.first_dialect(model), extra={})

    def _entry(self, model: str) -> _Entry | None:
        entry = self._entries.get(self._name(model))
        return entry if entry and entry.begun == self._begun(model) else None

    def _name(self, model: str) -> str:
        return f"{(self._teacher.endpoint or '').rstrip('/')} {model}"

    def _read(self) -> dict[str, Any]:
        try:
            value = json.loads(self._file.read_text(encoding="utf-8")) if self._file else {}
        except (OSError, ValueError, RecursionError):
            return {}
        return value if isinstance(value, dict) else {}

    def _write(self, name: str, entry: _Entry | None) -> None:
        """Into the file as it is now: other processes write as well, and what one of them loses is found out again."""
        if self._file is None:
            return
        values = self._read()
        if entry is None:
            values.pop(name, None)
        else:
            values[name] = {
                "begun": entry.begun.as_json(),
                "dialect": entry.dialect.as_json(),
                "found": time.strftime("%Y-%m-%d", time.gmtime()),
                "taken": list(entry.taken),
            }
        part = self._file.with_name(f".{DIALECTS_FILE}.{os.getpid()}")
        try:
            part.write_text(json.dumps(values, indent=1, sort_keys=True) + "\n", encoding="utf-8")
            part.replace(self._file)
        except OSError as error:
            LOG.warning("%s cannot be written (%s): it is found out again", self._file, error.strerror)
            part.unlink(missing_ok=True)


def _entry(value: Any) -> _Entry | None:
    """What a file holds, as far as it can be used."""
    if not isinstance(value, dict):
        return None
    begun, dialect, taken = dialect_from(value.get("begun")), dialect_from(value.get("dialect")), value.get("taken")
    if begun is None or dialect is None or dialect.extra != PLAIN.extra or not isinstance(taken, list):
        return None
    return _Entry(begun, dialect, tuple(kind for kind in taken if isinstance(kind, str)))
