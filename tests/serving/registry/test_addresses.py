import pytest
from sqlalchemy import exc

from serving.errors import BadRequest, NotReady
from serving.registry.addresses import address_of, place_of, reason_of
from serving.registry.database import Database
from tests.serving.hand import Hand

SECRET = "hunter2"


@pytest.mark.parametrize(
    ("url", "driver"),
    [
        ("sqlite:////var/x.sqlite", "sqlite"),
        ("postgresql://u@h/x", "postgresql+psycopg"),
        ("postgresql+psycopg://u@h/x", "postgresql+psycopg"),
    ],
)
def test_sqlite_and_postgresql_are_taken_with_the_driver_that_is_used(url, driver):
    assert address_of(url).drivername == driver


@pytest.mark.parametrize(
    ("url", "why"),
    [
        (f"mysql://u:{SECRET}@h/x", "mysql is no database of ours"),
        (f"postgresql+psycopg2://u:{SECRET}@h/x", "postgresql\\+psycopg2 is no database of ours"),
        (f"postgres://u:{SECRET}@h/x", "postgres is no database of ours"),
        (SECRET, "is no URL of a database"),
        (f"postgresql://u:{SECRET}@h:port/x", "is no URL of a database"),
        ("sqlite://", "forgets all"),
        ("sqlite:///:memory:", "forgets all"),
    ],
)
def test_anything_else_is_refused_with_the_option_and_the_remedy_but_no_password(url, why):
    with pytest.raises(BadRequest, match=why) as refused:
        Database.open(url)
    assert refused.value.detail.startswith("--database-url")
    assert ": write " in refused.value.detail
    assert SECRET not in refused.value.detail


def test_the_command_line_says_it_in_one_line(tmp_path):
    result = Hand("").run("key", "ls", "--data", tmp_path, "--database-url", "foo", code=1)
    assert "--database-url is no URL of a database" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_server_that_does_not_answer_at_the_start_is_named_with_the_reason():
    with pytest.raises(NotReady) as refused:
        Database.open(f"postgresql://u:{SECRET}@127.0.0.1:1/x")
    assert refused.value.detail.startswith("the registry's database 127.0.0.1:1/x does not answer: ")
    assert "refused" in refused.value.detail
    assert SECRET not in refused.value.detail
    assert (refused.value.code, refused.value.retry_after) == ("registry_unavailable", 1.0)


@pytest.mark.parametrize(
    ("url", "place"),
    [
        (f"postgresql://u:{SECRET}@db:5433/chorus", "db:5433/chorus"),
        ("postgresql://u@/chorus?host=/run/pg", "/run/pg/chorus"),
        ("postgresql:///chorus", "localhost/chorus"),
        ("sqlite:////var/x.sqlite", "/var/x.sqlite"),
    ],
)
def test_a_place_is_told_without_the_user(url, place):
    assert place_of(address_of(url)) == place


def test_a_reason_is_one_line_of_the_driver():
    driver = OSError("no route\nto host")
    assert reason_of(exc.OperationalError("SELECT 1", {}, driver)) == "no route"
    assert reason_of(TimeoutError()) == "TimeoutError"
