"""The dialects that servers were found to accept, stored in the home.

`teachers.json` holds, for each address and model, the dialect that the search began with, the one that it found, and the
kinds of request that the server has accepted in it. It contains no key and no header's value. Remove an entry to search
again.

Belongs here: searching a dialect, and storing it. Not here: what a dialect is (`domain/dialect.py`), how a request is sent
(`endpoint.py`).
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
from resources.redaction import masked
from speed_assets.domain.dialect import PLAIN, Dialect, dialect_from, next_dialect
from speed_assets.domain.fingerprints import digest
from speed_assets.recipe import Teacher

DIALECTS_FILE = "teachers.json"
PROBE_CALLS_MAX = 8
"""Refused calls that a search may take, for one model in one process. Ours."""
_KINDS_KEPT = 64
LOG = logging.getLogger("speed.teacher")


def request_kind(request: TeacherRequest) -> str:
    """Name of a kind of request: a server accepts or refuses all requests of equal schema and sampling alike."""
    parameters = request.parameters
    named = [request.schema, parameters["temperature"], parameters["top_p"], parameters.get("structured_output")]
    return digest(named)[:12]


@dataclass(frozen=True, slots=True)
class _Entry:
    begun: Dialect
    """The dialect that the search began with; another one makes a new search necessary."""
    dialect: Dialect
    taken: tuple[str, ...] = ()


class DialectBook:
    """Dialects by endpoint and model, for this recipe's teacher. Without a home they are not stored."""

    def __init__(self, teacher: Teacher, home: Path | None = None) -> None:
        self._teacher = teacher
        self._file = home / DIALECTS_FILE if home else None
        self._calls: dict[str, int] = {}
        self._entries = {name: entry for name, value in self._read().items() if (entry := _entry(value))}

    def dialect(self, model: str) -> Dialect:
        """The dialect for a model at the endpoint: the one found, with the recipe's own fields in place of found ones."""
        entry = self._entry(model)
        return replace(entry.dialect, **self._teacher.fixed_dialect()) if entry else self._teacher.first_dialect(model)

    def is_accepted(self, request: TeacherRequest) -> bool:
        """Whether the server has accepted a request of this kind."""
        entry = self._entry(request.model)
        return entry is not None and request_kind(request) in entry.taken

    def probe(
        self, request: TeacherRequest, send: Callable[[TeacherRequest], TeacherAnswer]
    ) -> tuple[TeacherRequest, TeacherAnswer]:
        """Send a request alone, in one dialect after the other as long as the server refuses its form.

        Args:
            request: The first of its kind.
            send: Sends a request; its answer may be a refusal.

        Returns:
            The request as it was last sent, and the reply: an answer, or a refusal for another reason.

        Raises:
            TeacherUnavailable: `PROBE_CALLS_MAX` calls were refused.
        """
        fixed = frozenset(self._teacher.fixed_dialect())
        while True:
            answer = send(request)
            if answer.refusal is None:
                if answer.error is None or answer.without_answer:  # a filter does not judge the rest of the body
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
                    f"was last asked with {request.dialect.in_words()}, and answered {answer.error}: set teacher.dialect"
                )
            request = request.in_dialect(other)

    def forget(self, model: str) -> bool:
        """Remove the dialect of a model whose server now refuses it. Returns whether there was one."""
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
        """Update the file as it is now: other processes write it, too. A lost entry is searched again."""
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
            part.write_text(masked(json.dumps(values, indent=1, sort_keys=True)) + "\n", encoding="utf-8")
            part.replace(self._file)
        except OSError as error:
            LOG.warning(
                "%s cannot be written (%s): the next run searches the dialect again", self._file, error.strerror
            )
            part.unlink(missing_ok=True)


def _entry(value: Any) -> _Entry | None:
    """The entry of a file; None when it cannot be used."""
    if not isinstance(value, dict):
        return None
    begun, dialect, taken = dialect_from(value.get("begun")), dialect_from(value.get("dialect")), value.get("taken")
    if begun is None or dialect is None or dialect.extra != PLAIN.extra or not isinstance(taken, list):
        return None
    return _Entry(begun, dialect, tuple(kind for kind in taken if isinstance(kind, str)))
