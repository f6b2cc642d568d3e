"""How SQL is reached: one engine per process, migrated when it is opened, with one writer at a time.

A write transaction begins by raising the registry's revision. That row is the lock: revisions become visible in the
order of their numbers, on SQLite (BEGIN IMMEDIATE) and on PostgreSQL (row lock) alike, so a reader that has seen
revision n has seen everything up to n.
"""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from sqlalchemy import URL, Connection, Engine, create_engine, event, exc, text, update

from serving.errors import Conflict, NotReady
from serving.logs import log
from serving.registry import schema
from serving.registry.addresses import address_of, place_of, reason_of
from serving.registry.tables import META

_BUSY_MS = 5_000  # how long a statement waits for another process's lock
_STATEMENT_S = 5.0  # how long PostgreSQL may take for one
_MIGRATE_S = 600.0  # the same while the schema is brought up to date: an index over a long audit takes its time
_OPEN_S = 10.0  # how long several starting processes may stand in each other's way
_MIGRATION_LOCK = 0x43484F52  # PostgreSQL advisory lock: any number that all processes agree on
_RAISED = update(META).values(revision=META.c.revision + 1).returning(META.c.revision)
_OWN_FAULTS = (exc.IntegrityError, exc.ProgrammingError, exc.DataError)  # bugs, not an absent database


@dataclass(frozen=True)
class Write:
    """An open write transaction, and the revision that the registry has once it commits."""

    connection: Connection
    revision: int


class Database:
    """One SQL database of the registry. Methods are synchronous: call them from a thread."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    @classmethod
    def open(cls, url: str, *, upgrade: bool = True) -> Self:
        """Connect and migrate; safe when several processes start at once.

        `url` is SQLAlchemy's (`sqlite:///path`, `postgresql://...`). Raises `BadRequest` for any other, `NotReady` with
        host and reason where the database does not answer, and `Conflict` where a newer release has written it for
        newer ones, or, unless `upgrade`, where this one would have to migrate what another one is using.
        """
        engine = _engine(url, statement_s=_MIGRATE_S)
        deadline = time.monotonic() + _OPEN_S
        try:
            # SQLite answers a contended switch to WAL with "locked" at once, whatever its busy timeout.
            while not _migrated(
                engine, upgrade=upgrade, last=engine.dialect.name != "sqlite" or time.monotonic() > deadline
            ):
                time.sleep(0.02)
        finally:
            engine.dispose()
        return cls(_engine(url))

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A read transaction: one consistent state. Raises `NotReady` when the database is away."""
        options: dict[str, Any] = {"chorus_begin": "BEGIN"}
        if self._engine.dialect.name != "sqlite":
            options["isolation_level"] = "REPEATABLE READ"
        with _answering(), self._engine.connect() as connection:
            yield connection.execution_options(**options)

    @contextmanager
    def write(self) -> Iterator[Write]:
        """A write transaction, durable on leaving, undone on any error. Raises `NotReady` when SQL is away."""
        with _answering(), self._engine.begin() as connection:
            yield Write(connection, connection.execute(_RAISED).scalar_one())

    def close(self) -> None:
        """Close every connection."""
        self._engine.dispose()


def _engine(url: str, statement_s: float = _STATEMENT_S) -> Engine:
    parsed = address_of(url)
    if parsed.get_backend_name() != "sqlite":
        return _postgres(parsed, statement_s)
    Path(parsed.database or "").parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(parsed, pool_timeout=5)
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _postgres(url: URL, statement_s: float) -> Engine:
    try:
        from serving.registry import postgres  # noqa: PLC0415 - its driver is an extra
    except ModuleNotFoundError as error:
        told = f"the database {url.render_as_string()} needs psycopg: install 'chorus[postgres]'"
        raise Conflict(told, code="missing_extra") from error
    return postgres.connect(url, statement_s)


def _prepare_sqlite(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # the driver would begin by itself, and deferred; see _begin_sqlite
    for pragma in (f"busy_timeout={_BUSY_MS}", "journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: Connection) -> None:
    connection.exec_driver_sql(connection.get_execution_options().get("chorus_begin", "BEGIN IMMEDIATE"))


def _migrated(engine: Engine, *, upgrade: bool, last: bool) -> bool:
    """Bring the schema up to date; False where the database was busy and it is not the last try."""
    try:
        with _answering():
            _migrate(engine, upgrade=upgrade)
    except NotReady as error:
        if last:
            told = f"the registry's database {place_of(engine.url)} does not answer: {reason_of(error.__cause__)}"
            raise NotReady(told, code=error.code, retry_after=error.retry_after) from error
        return False
    return True


def _migrate(engine: Engine, to: str = "head", *, upgrade: bool = True) -> None:
    with engine.begin() as connection:
        if engine.dialect.name != "sqlite":
            connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _MIGRATION_LOCK})
        if not upgrade:
            schema.refuse_outdated(connection)
        schema.upgrade(connection, to)


@contextmanager
def _answering() -> Iterator[None]:
    try:
        yield
    except _OWN_FAULTS:
        raise
    except (exc.DBAPIError, exc.TimeoutError) as error:
        log("registry", "the database does not answer", level=logging.WARNING, why=type(error).__name__)
        raise NotReady(
            "the registry's database does not answer now", code="registry_unavailable", retry_after=1.0
        ) from error
