"""The ledger's database: its tables, how it is opened, and transactions that are safe among processes.

SQLite by default; PostgreSQL when the environment variable `SPEED_LEDGER_URL` names one. That URL may hold a
password: it is in no message, and no other module reads it.

Belongs here: tables, opening, migration, transactions, redacted errors. Not here: what is written (`ledger.py`,
`budget.py`).
"""

from __future__ import annotations

import os
import sqlite3
import threading
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import sqlalchemy as sa

from resources.store.store import StoreError

URL_VARIABLE = "SPEED_LEDGER_URL"
_METADATA = sa.MetaData()
_BUSY_S = 60
_BLOCK = 1000
"""Keys in one query: below every database's limit on bound variables."""
_ADVISORY_LOCK = 0x5EED
_PATIENCE = {"connect_timeout": _BUSY_S, "keepalives_idle": 30, "keepalives_interval": 10, "keepalives_count": 3}
"""Timeouts of PostgreSQL connections, in seconds; options in the URL have precedence. Ours."""


def _who_and_what() -> list[sa.Column[Any]]:
    """The columns of a payment. Money is in 10^-9 of the currency, so that sums are exact."""
    return [
        sa.Column("run", sa.String, index=True),
        sa.Column("stage", sa.String, nullable=False, index=True),
        sa.Column("partition", sa.String),
        sa.Column("model", sa.String, nullable=False),
        sa.Column("endpoint", sa.String),
        sa.Column("prompt_tokens", sa.Integer),
        sa.Column("output_tokens", sa.Integer),
        sa.Column("cost", sa.BigInteger),
        sa.Column("currency", sa.String),
        sa.Column("prices", sa.String),
        sa.Column("answered_at", sa.Float, nullable=False),
    ]


CALLS = sa.Table(
    "calls",
    _METADATA,
    sa.Column("key", sa.String(64), primary_key=True),
    sa.Column("request", sa.LargeBinary, nullable=False),
    sa.Column("answer", sa.LargeBinary, nullable=False),
    sa.Column("finished", sa.Boolean(create_constraint=False)),
    sa.Column("served", sa.String),
    *_who_and_what(),
)
"""Answered calls: zlib-compressed request (canonical JSON) and answer (UTF-8 text), whether the model ended by itself (null:
the server did not report it), the model that the server reports, and the cost."""

UNKEPT = sa.Table(
    "unkept",
    _METADATA,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("key", sa.String(64), nullable=False),
    sa.Column("why", sa.String, nullable=False),
    *_who_and_what(),
)
"""Payments without an answer in `calls`. `why` is `pruned`, `doubled` (two processes sent the same request at the same
time), `lost` (under way when its process died: it may have been billed), or the name of a reply without an answer
(`domain/replies.py`)."""

RESERVATIONS = sa.Table(
    "reservations",
    _METADATA,
    sa.Column("key", sa.String(64), primary_key=True),
    sa.Column("holder", sa.String, primary_key=True),
    sa.Column("run", sa.String, nullable=False),
    sa.Column("stage", sa.String, nullable=False),
    sa.Column("partition", sa.String),
    sa.Column("model", sa.String, nullable=False),
    sa.Column("endpoint", sa.String),
    sa.Column("money", sa.BigInteger, nullable=False),
    sa.Column("currency", sa.String, nullable=False),
    sa.Column("taken_at", sa.Float, nullable=False),
)
"""Calls that may be under way; `money` is the most that each can cost, in 10^-9."""

TALLIES = sa.Table(
    "tallies",
    _METADATA,
    sa.Column("scope", sa.String, primary_key=True),
    sa.Column("name", sa.String, primary_key=True),
    sa.Column("currency", sa.String, primary_key=True),
    sa.Column("calls", sa.BigInteger, nullable=False),
    sa.Column("money", sa.BigInteger, nullable=False),
)
"""Settled and reserved calls and money of each run, stage and day, so that a cap is checked without counting rows."""

BATCHES = sa.Table(
    "batches",
    _METADATA,
    sa.Column("id", sa.String, primary_key=True),
    sa.Column("endpoint", sa.String, nullable=False),
    sa.Column("holder", sa.String, nullable=False),
    sa.Column("held_at", sa.Float, nullable=False),
    sa.Column("saved_at", sa.Float, nullable=False),
    sa.Column("info", sa.Text, nullable=False),
)
BATCH_KEYS = sa.Table(
    "batch_keys",
    _METADATA,
    sa.Column("batch", sa.String, primary_key=True),
    sa.Column("key", sa.String(64), primary_key=True, index=True),
)
"""Provider batches that are not closed, and the keys of the requests in each."""


class LedgerError(StoreError):
    """The ledger cannot be used; the message says which and what to do, and never contains its URL."""


class Database:
    """Transactions on the ledger. Threads and processes may share it; writers wait for each other.

    Its methods raise LedgerError, without URL or statement in the message.
    """

    def __init__(self, url: str | sa.URL) -> None:
        self.url = _checked(url)
        self.sqlite = self.url.get_backend_name() == "sqlite"
        self.name = f"ledger {self.url.database}" if self.sqlite else f"PostgreSQL ledger ({URL_VARIABLE})"
        self._engine = sa.create_engine(
            self.url,
            hide_parameters=True,
            pool_pre_ping=not self.sqlite,  # a server that was started again between two uses is no fault
            connect_args={} if self.sqlite else {k: v for k, v in _PATIENCE.items() if k not in self.url.query},
        )
        self._turn = threading.Lock()
        if self.sqlite:
            sa.event.listen(self._engine, "connect", _durable_sqlite)
            sa.event.listen(self._engine, "begin", _begin_sqlite)
        self._writer = self._engine.execution_options(writing=True)
        self._prepare()

    @classmethod
    def of(cls, home: Path) -> Database:
        """The database of a home: the one that `SPEED_LEDGER_URL` names, else a file in it."""
        return cls(os.environ.get(URL_VARIABLE) or sa.URL.create("sqlite", database=str(home / "ledger.sqlite")))

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """A transaction with one consistent view, for reading."""
        with self._redacted_errors(), self._engine.begin() as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        """A transaction that no other writer overlaps; what it wrote is durable when the block is left."""
        with self._turn, self._redacted_errors(), self._writer.begin() as connection:
            if not self.sqlite:
                patience = sa.func.set_config("lock_timeout", f"{_BUSY_S}s", True)  # until this transaction ends
                connection.execute(sa.select(patience, sa.func.pg_advisory_xact_lock(_ADVISORY_LOCK)))
            yield connection

    def add(self, table: sa.Table) -> Any:
        """INSERT for this database, which can say what happens `on_conflict`."""
        if self.sqlite:
            from sqlalchemy.dialects import sqlite

            return sqlite.insert(table)
        from sqlalchemy.dialects import postgresql

        return postgresql.insert(table)

    def compact(self) -> None:
        """Free the space of removed rows, unless another process uses the ledger. PostgreSQL does it by itself."""
        if self.sqlite:
            raw = self._engine.raw_connection()
            try:
                raw.cursor().execute("VACUUM")
            except sqlite3.OperationalError:
                pass  # somebody reads or writes; the space is used again anyway
            finally:
                raw.close()

    def size(self) -> int:
        """Bytes on disk."""
        with self.reading() as connection:
            if not self.sqlite:
                sizes = [sa.func.pg_total_relation_size(table.name) for table in _METADATA.sorted_tables]
                return sum(connection.execute(sa.select(*sizes)).one())
            pages, page = (connection.exec_driver_sql(f"PRAGMA {n}").scalar_one() for n in ("page_count", "page_size"))
            return int(pages * page)

    def day(self, column: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
        """The day (UTC, `2024-10-18`) of a column of Unix seconds."""
        if self.sqlite:
            return sa.func.date(column, "unixepoch")
        return sa.func.to_char(sa.func.timezone("UTC", sa.func.to_timestamp(column)), "YYYY-MM-DD")

    def close(self) -> None:
        """Close the connections."""
        self._engine.dispose()

    def _prepare(self) -> None:
        """Create missing tables and columns. Raises LedgerError for a table that is not ours, before anything is changed."""
        if self.url.database and self.sqlite and not Path(self.url.database).parent.is_dir():
            raise LedgerError(f"{self.name}: there is no such folder; set another SPEED_HOME")
        with self.reading() as connection:
            if not _missing(connection, self.name):
                return
        with self.writing() as connection:  # another process may have been faster: check again
            for table in (missing := _missing(connection, self.name)):
                if not missing[table]:
                    table.create(connection)
                for column in missing[table]:
                    kind = column.type.compile(connection.dialect)
                    connection.execute(sa.text(f'ALTER TABLE {table.name} ADD COLUMN "{column.name}" {kind}'))
                for index in table.indexes if missing[table] else ():
                    index.create(connection, checkfirst=True)
            if CALLS.c.served in missing.get(CALLS, ()):
                _move_empty_answers(connection)

    @contextmanager
    def _redacted_errors(self) -> Iterator[None]:
        """Raise database errors as LedgerError, without URL, statement or traceback of the driver."""
        try:
            yield
        except (sa.exc.IntegrityError, sa.exc.ProgrammingError):
            raise
        except sa.exc.DBAPIError as error:
            self._explain(str(error.orig).strip().splitlines()[0])

    def _explain(self, words: str) -> NoReturn:
        advice = "see that the database runs and lets you in, then run again"
        if self.sqlite:
            if "malformed" in words or "not a database" in words:
                advice = "the file is damaged; put a backup in its place, or move it away and lose its answers"
            elif "locked" in words:
                advice = f"another process has held it for {_BUSY_S} s; end that one, then run again"
            elif "full" in words:
                advice = f"no space left under {Path(self.url.database or '.').parent}; make room there, then run again"
            else:
                advice = "see that disk and file can be written, then run again"
        elif "lock timeout" in words:
            advice = f"another process has held it for {_BUSY_S} s; end that one, then run again"
        password = self.url.password
        shown = words.replace(str(password), "***") if password else words
        raise LedgerError(f"{self.name}: {shown}: {advice}") from None


def key_blocks(keys: Sequence[str]) -> Iterator[list[str]]:
    """The different keys, in parts that fit into one query."""
    unique = list(dict.fromkeys(keys))
    for start in range(0, len(unique), _BLOCK):
        yield unique[start : start + _BLOCK]


def _checked(url: str | sa.URL) -> sa.URL:
    try:
        parsed = sa.make_url(url)
    except (sa.exc.ArgumentError, ValueError):
        raise LedgerError(f"{URL_VARIABLE} is no database URL: write postgresql://USER@HOST/DATABASE") from None
    backend = parsed.drivername.partition("+")[0]
    if backend == "sqlite":
        return parsed
    if backend not in ("postgresql", "postgres"):
        raise LedgerError(f"{URL_VARIABLE} names a database of kind {backend}: only postgresql and sqlite will do")
    try:
        import psycopg  # noqa: F401
    except ImportError:
        raise LedgerError(f"{URL_VARIABLE} needs a driver: pip install 'speed-assets[postgres]'") from None
    return parsed.set(drivername="postgresql+psycopg")


def _missing(connection: sa.Connection, name: str) -> dict[sa.Table, list[sa.Column[Any]]]:
    """Tables that are not there, with an empty list, and columns that an older version did not have."""
    inspector = sa.inspect(connection)
    there = set(inspector.get_table_names())
    missing: dict[sa.Table, list[sa.Column[Any]]] = {}
    for table in _METADATA.sorted_tables:
        if table.name not in there:
            missing[table] = []
            continue
        has = {column["name"] for column in inspector.get_columns(table.name)}
        lacking = [column for column in table.columns if column.name not in has]
        needed = [column.name for column in lacking if not column.nullable]
        if needed:
            raise LedgerError(
                f"{name}: its table `{table.name}` has no {', '.join(needed)} and is not ours; "
                "it was left as it is: move it away, or use another SPEED_HOME"
            )
        if lacking:
            missing[table] = lacking
    return missing


def _move_empty_answers(connection: sa.Connection) -> None:
    """Move empty answers to `unkept`: older versions stored them as answers and never sent their requests again."""
    empty = CALLS.c.answer == zlib.compress(b"")
    names = [column.name for column in UNKEPT.columns if column.name not in ("id", "why")]
    paid = sa.select(*(CALLS.c[name] for name in names), sa.literal("empty")).where(empty)
    connection.execute(sa.insert(UNKEPT).from_select([*names, "why"], paid))
    connection.execute(sa.delete(CALLS).where(empty))


def _durable_sqlite(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # transactions are ours to begin, see _begin_sqlite
    cursor = connection.cursor()
    for pragma in (f"busy_timeout={_BUSY_S * 1000}", "journal_mode=WAL", "synchronous=FULL"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_sqlite(connection: sa.Connection) -> None:
    """Writers take the lock before they read, so that what they read is still true when they write."""
    writing = connection.get_execution_options().get("writing")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writing else "BEGIN")
