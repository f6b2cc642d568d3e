"""How PostgreSQL is reached: every wait ends, even where the server neither answers nor goes away."""

from collections.abc import Generator
from time import monotonic
from typing import Any, TypeVar

import psycopg
from sqlalchemy import URL, Engine, create_engine, event

CONNECT_S = 3
GRACE_S = 1.0  # the client gives up so long after the server should have
IDLE_S = 10.0  # a writer that stalls between two statements keeps the others out no longer
T = TypeVar("T")


class BoundedConnection(psycopg.Connection[Any]):
    """A connection that is closed, and says so, where an answer takes longer than `answer_s`.

    A host that went away without a word, or a server that is stopped, would else be waited for until TCP gives up:
    minutes, or for ever.
    """

    answer_s = GRACE_S

    def wait(self, gen: Generator[Any, Any, T], *arguments: Any, **options: Any) -> T:
        """Run what psycopg waits for; raises `psycopg.OperationalError` where it does not end in time."""
        return super().wait(self._bounded(gen), *arguments, **options)

    def _bounded(self, gen: Generator[Any, Any, T]) -> Generator[Any, Any, T]:
        deadline = monotonic() + self.answer_s
        try:
            wanted = next(gen)
            while monotonic() < deadline:
                wanted = gen.send((yield wanted))  # psycopg comes back with "nothing yet" ten times a second
        except StopIteration as done:
            value: T = done.value
            return value
        gen.close()
        self.pgconn.finish()
        raise psycopg.OperationalError(f"the server gave no answer in {self.answer_s:g} s")


def connect(url: URL, statement_s: float) -> Engine:
    """An engine whose connections are checked before they are used, and replaced where they are dead.

    The server ends a statement after `statement_s`, whatever it waits for.
    """
    settings = {
        "synchronous_commit": "on",
        "statement_timeout": f"{statement_s * 1000:.0f}",
        "idle_in_transaction_session_timeout": f"{IDLE_S * 1000:.0f}",
    }
    options = " ".join(f"-c {name}={value}" for name, value in settings.items())
    arguments = {"connect_timeout": CONNECT_S, "options": options}
    engine = create_engine(
        url,
        pool_pre_ping=True,
        pool_timeout=statement_s,
        connect_args=arguments,
        # and not what the role or the database has by default: a writer that waited for another one goes on from there
        isolation_level="READ COMMITTED",
    )

    def connection(_dialect: object, _record: object, positional: Any, named: Any) -> BoundedConnection:
        made = BoundedConnection.connect(*positional, **named)
        made.answer_s = statement_s + GRACE_S
        return made

    event.listen(engine, "do_connect", connection)
    return engine
