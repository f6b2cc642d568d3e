"""Which schemas this release makes, goes on with, and refuses."""

import pytest
from sqlalchemy import create_engine, text

from serving.errors import Conflict
from serving.registry import schema


@pytest.fixture
def connection(bare_url):
    engine = create_engine(bare_url)
    with engine.begin() as opened:
        yield opened
    engine.dispose()


def version(connection):
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one()


def test_an_empty_database_gets_the_newest_schema_and_is_not_outdated(connection):
    schema.refuse_outdated(connection)
    schema.upgrade(connection)
    assert version(connection) == max(schema.known())
    schema.refuse_outdated(connection)


@pytest.mark.parametrize("held", ["0001", "0002", "0003"])
def test_an_earlier_schema_is_outdated_until_it_is_upgraded(connection, held):
    schema.upgrade(connection, held)
    with pytest.raises(Conflict, match=f"schema {held} of an earlier release"):
        schema.refuse_outdated(connection)
    schema.upgrade(connection)
    schema.refuse_outdated(connection)


@pytest.mark.parametrize(("oldest", "suits"), [("0004", True), ("0005", False)])
def test_a_later_schema_says_itself_whether_this_release_is_too_old(connection, oldest, suits):
    schema.upgrade(connection)
    connection.execute(text("UPDATE alembic_version SET version_num = '0009'"))
    connection.execute(text("UPDATE origin SET oldest = :oldest"), {"oldest": oldest})
    for ask in (schema.upgrade, schema.refuse_outdated):
        if suits:
            ask(connection)
        else:
            with pytest.raises(Conflict, match="schema 0009 is not for this one") as caught:
                ask(connection)
            assert caught.value.code == "newer_registry"
    assert version(connection) == "0009"


def test_a_schema_of_nobody_that_says_nothing_is_refused(connection):
    schema.upgrade(connection, "0003")
    connection.execute(text("UPDATE alembic_version SET version_num = 'abcd'"))
    with pytest.raises(Conflict, match="newer release"):
        schema.upgrade(connection)
