"""The ledger: every teacher call by name, its answer durable before the caller sees it.

Request key = sha256 over rendered messages, model and revision, endpoint, sampling parameters, schema
and sample index. The same key is never asked twice, whatever run asks; a changed prompt, endpoint or
model can never get a stale answer.

Belongs here: storing and finding answers. Not here: asking (`teacher.py`).
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from resources.calls import TeacherAnswer, TeacherRequest
from speed_assets.domain.fingerprints import canonical_json

_METADATA = sa.MetaData()
_CALLS = sa.Table(
    "calls",
    _METADATA,
    sa.Column("key", sa.String(64), primary_key=True),
    sa.Column("stage", sa.String(64), nullable=False, index=True),
    sa.Column("model", sa.String(256), nullable=False),
    sa.Column("request", sa.LargeBinary, nullable=False),
    sa.Column("answer", sa.LargeBinary, nullable=False),
    sa.Column("prompt_tokens", sa.Integer),
    sa.Column("output_tokens", sa.Integer),
    sa.Column("answered_at", sa.Float, nullable=False),
)
_BLOCK = 500  # keys in one query: below SQLite's limit on bound variables


class Ledger:
    """Answers by request key, in SQLite. Several processes may share one file."""

    def __init__(self, url: str) -> None:
        self.engine = sa.create_engine(url)
        if self.engine.dialect.name == "sqlite":
            sa.event.listen(self.engine, "connect", _durable_sqlite)
        _METADATA.create_all(self.engine, checkfirst=True)

    @classmethod
    def at(cls, home: Path) -> Ledger:
        return cls(f"sqlite:///{home / 'ledger.sqlite'}")

    def find(self, keys: Sequence[str]) -> dict[str, TeacherAnswer]:
        """The known answers among `keys`."""
        found: dict[str, TeacherAnswer] = {}
        with self.engine.connect() as connection:
            for block in _blocks(list(dict.fromkeys(keys))):
                query = sa.select(_CALLS.c.key, _CALLS.c.answer, _CALLS.c.prompt_tokens, _CALLS.c.output_tokens).where(
                    _CALLS.c.key.in_(block)
                )
                for key, answer, prompt_tokens, output_tokens in connection.execute(query):
                    text = zlib.decompress(answer).decode()
                    found[key] = TeacherAnswer(text, prompt_tokens, output_tokens, reused=True)
        return found

    def record(self, stage: str, answered: Sequence[tuple[TeacherRequest, TeacherAnswer]]) -> None:
        """Keep answers in one transaction; on return they survive a crash. A key already kept stays as it was."""
        if not answered:
            return
        now = time.time()
        rows = [
            {
                "key": request.key,
                "stage": stage,
                "model": request.model,
                "request": zlib.compress(canonical_json(request.named()).encode()),
                "answer": zlib.compress(answer.text.encode("utf-8", "replace")),
                "prompt_tokens": answer.prompt_tokens,
                "output_tokens": answer.output_tokens,
                "answered_at": now,
            }
            for request, answer in answered
        ]
        with self.engine.begin() as connection:
            connection.execute(_insert_or_ignore(self.engine, _CALLS), rows)

    def count(self) -> int:
        """Calls ever answered."""
        with self.engine.connect() as connection:
            return connection.execute(sa.select(sa.func.count()).select_from(_CALLS)).scalar_one()


def _insert_or_ignore(engine: sa.Engine, table: sa.Table) -> Any:
    if engine.dialect.name == "postgresql":
        from sqlalchemy.dialects.postgresql import insert as postgres_insert

        return postgres_insert(table).on_conflict_do_nothing()
    from sqlalchemy.dialects.sqlite import insert as sqlite_insert

    return sqlite_insert(table).on_conflict_do_nothing()


def _durable_sqlite(connection: Any, _record: Any) -> None:
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "busy_timeout=60000"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _blocks(keys: list[str]) -> Iterator[list[str]]:
    for start in range(0, len(keys), _BLOCK):
        yield keys[start : start + _BLOCK]
