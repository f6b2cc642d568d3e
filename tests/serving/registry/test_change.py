import asyncio
import json

import pytest

from serving.errors import NotFound
from serving.logs import request_scope
from serving.registry.change import Change
from serving.registry.lookup import read_revision
from tests.serving.registry.given import ACME, report_of

KEY = ("acme", "adapter", "ada")


@pytest.fixture
def published(catalog):
    return catalog.add_version(ACME, "adapter", "ada", report_of(b"one"), promote=False)


def test_a_line_of_the_audit_says_who_what_when_before_and_after(registry, published):
    with request_scope("req_7"), registry.database.write() as write:
        change = Change(write, "key9", 12.5)
        change.note(("acme", "key", "k1"), "turn", subject="k1", detail="so", before={"b": 1, "a": None}, after=[2])
    entry = registry.catalog.audit("acme", after=0, limit=1)[0]
    assert (entry.at, entry.actor, entry.tenant, entry.space, entry.name) == (12.5, "key9", "acme", "key", "k1")
    assert (entry.action, entry.subject, entry.detail) == ("turn", "k1", "so")
    assert (entry.before, entry.after, entry.request_id) == ('{"a":null,"b":1}', "[2]", "req_7")


def test_the_request_is_known_in_the_thread_that_writes(registry):
    with request_scope("req_8"):
        asyncio.run(registry.publish(b"one"))
    assert [entry.request_id for entry in registry.catalog.audit("acme", after=0, limit=9)] == ["req_8"]


def test_outside_of_a_request_there_is_no_id_and_nothing_before_is_nothing(catalog, published):
    entry = catalog.audit("acme", after=0, limit=1)[0]
    assert (entry.before, entry.request_id) == ("", "")
    assert json.loads(entry.after)["version"] == 1


def test_readers_see_what_was_touched_and_only_that(registry, published):
    registry.catalog.add_version(ACME, "adapter", "bob", report_of(b"two"), promote=False)
    seen = registry.catalog.since(0).revision
    with registry.database.write() as write:
        change = Change(write, "key1", 1.0)
        assert change.revision == seen + 1
        change.touch(KEY, "turn", subject="ada")
    assert list(registry.catalog.since(seen).names) == [KEY]


def test_a_note_alone_makes_no_reader_read_a_name_again(registry, published):
    seen = registry.catalog.since(0).revision
    with registry.database.write() as write:
        Change(write, "key1", 1.0).note(KEY, "turn", subject="ada")
    delta = registry.catalog.since(seen)
    assert (delta.revision, delta.names) == (seen + 1, {})


def test_a_name_is_read_as_the_change_itself_left_it(registry, published):
    with registry.database.write() as write:
        change = Change(write, "key1", 1.0)
        assert change.present(KEY).revision == published.revision
        change.touch(KEY, "turn", subject="ada")
        assert change.present(KEY).revision == change.revision
        assert change.name(("acme", "adapter", "bob")) is None
        with pytest.raises(NotFound):
            change.present(("acme", "adapter", "bob"))


def test_what_is_undone_leaves_no_line(registry, published):
    with pytest.raises(ZeroDivisionError), registry.database.write() as write:
        Change(write, "key1", 1.0).touch(KEY, "turn", subject="ada")
        raise ZeroDivisionError
    assert registry.catalog.audit("acme", after=0, limit=9)[0].action == "publish"
    with registry.database.read() as connection:
        assert read_revision(connection) == published.revision
