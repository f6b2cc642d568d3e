from pathlib import Path
from tempfile import TemporaryDirectory

import psycopg
import pytest

from loadtests.proofs.postgres import Postgres


@pytest.fixture(scope="module")
def server():
    with TemporaryDirectory(prefix="pg-") as folder:
        place = Path(folder)
        place.chmod(0o711)  # the server runs as somebody else
        held = Postgres(place / "s")
        yield held
        held.remove()


def told(url, statement):
    """What a database answers on a new connection."""
    with psycopg.connect(url.replace("+psycopg", ""), connect_timeout=2) as connection:
        return connection.execute(statement).fetchone()


def test_a_database_survives_a_crash_of_its_server(server):
    url = server.create("crashing")
    with psycopg.connect(url.replace("+psycopg", "")) as connection:
        connection.execute("CREATE TABLE held AS SELECT 7 AS number")
    server.stop()
    with pytest.raises(psycopg.OperationalError):
        told(url, "SELECT 1")
    server.start()
    assert told(url, "SELECT number FROM held") == (7,)


def test_a_server_that_hangs_does_not_answer_and_goes_on_afterwards(server):
    url = server.create("hanging")
    with server.stalled(), pytest.raises(psycopg.OperationalError):
        told(url, "SELECT 1")
    assert told(url, "SELECT 1") == (1,)


def test_databases_are_apart(server):
    one, other = server.create("one"), server.create("other")
    assert told(one, "SELECT current_database()") == ("one",)
    assert told(other, "SELECT current_database()") == ("other",)
