"""Rows as lines and back: the same rows, whatever database they come from and go to."""

import asyncio

import pytest
from sqlalchemy import select

from serving.errors import Conflict, Unprocessable
from serving.registry import dump
from serving.registry.database import Database
from serving.registry.tables import AUDIT, KEYS, META, METADATA, NAMES
from tests.serving.conftest import KINDS
from tests.serving.registry.given import ACME, url_of


@pytest.fixture
def filled(registry):
    asyncio.run(registry.publish("naïve \u2603 one".encode(), promote=True))
    asyncio.run(registry.publish(b"two"))
    registry.catalog.set_tags(ACME, "adapter", "ada", 1, {"mood": 'quote " and snow \u2603'})
    registry.catalog.set_pin(ACME, "adapter", "ada", 1, pinned=True)
    return registry


def rows_of(database):
    with database.read() as connection:
        return list(dump.rows(connection))


def copy(source, target):
    lines = [dump.line(table, row) for table, row in rows_of(source)]
    with target.write() as write:
        dump.fill(write, dump.parsed(lines))


def test_every_row_comes_back_in_another_database_and_the_revision_leaps_ahead(filled, tmp_path):
    other = Database.open(f"sqlite:///{tmp_path / 'other.sqlite'}")
    before = rows_of(filled.database)
    copy(filled.database, other)
    revision = filled.catalog.since(0).revision + dump.LEAP
    expected = [(table, {**row, "revision": revision} if "revision" in row else row) for table, row in before]
    assert rows_of(other) == expected
    assert {table for table, _ in before} >= {"meta", "names", "versions", "aliases", "pins", "tags", "audit"}
    other.close()


def test_a_filled_registry_numbers_its_next_row_after_the_last(filled, target):
    copy(filled.database, target)
    newest = select(AUDIT.c.id).order_by(AUDIT.c.id.desc()).limit(1)
    with target.write() as write:
        last = write.connection.execute(newest).scalar_one()
        row = {column.name: "x" for column in AUDIT.columns if column.name not in ("id", "at")}
        write.connection.execute(AUDIT.insert().values(**row, at=1.0))
        assert write.connection.execute(newest).scalar_one() == last + 1


@pytest.fixture(params=KINDS)
def target(request, tmp_path):
    """An empty database of every kind, beside the one of `registry`."""
    url = f"sqlite:///{tmp_path / 'other.sqlite'}"
    if request.param != "sqlite":
        url = request.getfixturevalue("cluster").create()
    database = Database.open(url)
    yield database
    database.close()


def test_many_rows_of_one_table_come_in_batches(registry, tmp_path, monkeypatch):
    monkeypatch.setattr(dump, "_AT_ONCE", 3)
    for number in range(10):
        asyncio.run(registry.publish(b"%d" % number))
    other = Database.open(f"sqlite:///{tmp_path / 'other.sqlite'}")
    copy(registry.database, other)
    assert len([1 for table, _ in rows_of(other) if table == "versions"]) == 10
    other.close()


def test_parents_come_before_what_refers_to_them():
    order = [table.name for table in METADATA.sorted_tables]
    assert order.index("names") < order.index("versions") < order.index("aliases")


@pytest.mark.parametrize(
    "line",
    [
        "",
        "{",
        "[]",
        "null",
        '{"table": "names"}',
        '{"table": "alembic_version", "row": {}}',
        '{"table": "meta", "row": 1}',
    ],
)
def test_a_line_that_is_none_of_ours_is_refused_by_its_number(line):
    good = dump.line("meta", {"id": 1, "revision": 3})
    with pytest.raises(Unprocessable, match="line 2 of the backup"):
        list(dump.parsed([good, line]))


def test_a_column_that_this_release_lacks_is_named():
    with pytest.raises(Unprocessable, match="unknown columns colour, shape"):
        list(dump.parsed([dump.line("meta", {"id": 1, "shape": 1, "colour": 2})]))


def test_rows_of_an_earlier_release_take_the_defaults_of_what_came_since(tmp_path):
    database = Database.open(url_of(tmp_path))
    key = {"key_id": "k", "tenant": "acme", "secret_sha256": "0" * 64, "scopes": "predict", "label": "", "created": 1.0}
    with database.write() as write:
        dump.fill(write, [("meta", {"id": 1, "revision": 7}), ("keys", {**key, "revoked": False, "revision": 5})])
    with database.read() as connection:
        assert connection.execute(select(META.c.revision)).scalar_one() == 7 + dump.LEAP
        assert connection.execute(select(KEYS.c.expires)).scalar_one() is None
        assert connection.execute(select(NAMES)).all() == []
    database.close()


def test_a_later_schema_is_refused_and_every_own_one_is_known(registry):
    with registry.database.read() as connection:
        dump.refuse_unknown_schema(dump.schema_of(connection))
    dump.refuse_unknown_schema("0001")
    with pytest.raises(Conflict, match="another release") as caught:
        dump.refuse_unknown_schema("9999")
    assert caught.value.code == "newer_registry"
