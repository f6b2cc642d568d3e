import pytest

from serving.logs import request_scope
from serving.registry.records import AliasMove
from tests.serving.registry.given import ACME, OTHER, report_of


def add(catalog, data=b"one", name="ada", *, by=ACME, promote=False):
    return catalog.add_version(by, "adapter", name, report_of(data), promote=promote)


@pytest.fixture
def busy(catalog):
    for number in range(5):
        add(catalog, bytes([number]), promote=True)
    add(catalog, name="bob")
    add(catalog, by=OTHER)
    return catalog


def test_pages_follow_each_other_newest_first_without_gap_or_repeat(busy):
    pages, after = [], 0
    for _ in range(5):
        pages.append(busy.audit("acme", after=after, limit=3))
        after = pages[-1][-1].sequence if pages[-1] else after
    assert [len(page) for page in pages] == [3, 3, 3, 2, 0]
    entries = [entry for page in pages for entry in page]
    sequences = [entry.sequence for entry in entries]
    assert sequences == sorted(set(sequences), reverse=True)
    assert {entry.tenant for entry in entries} == {"acme"}
    assert entries[0].subject == "bob@1"


def test_a_page_stays_what_it_is_while_others_write(busy):
    first = busy.audit("acme", after=0, limit=2)
    following = busy.audit("acme", after=first[-1].sequence, limit=2)
    add(busy, b"more")
    assert busy.audit("acme", after=first[-1].sequence, limit=2) == following


def test_what_is_asked_for_is_what_comes(busy):
    asked = {"after": 0, "limit": 100}
    assert {e.name for e in busy.audit("acme", name="bob", **asked)} == {"bob"}
    assert [e.action for e in busy.audit("acme", action="alias", **asked)] == ["alias"] * 5
    assert busy.audit("acme", space="key", **asked) == ()
    assert len(busy.audit(None, **asked)) == 12
    assert [e.tenant for e in busy.audit("other", **asked)] == ["other"]
    assert busy.audit("third", **asked) == ()


def test_an_alias_has_a_history_of_its_own(catalog):
    catalog._clock = iter(range(100)).__next__
    add(catalog, b"one", promote=True)
    add(catalog, b"two")
    with request_scope("req_1"):
        catalog.set_alias(ACME, "adapter", "ada", "prod", 2, if_match=None)
    catalog.set_alias(ACME, "adapter", "ada", "blue", 1, if_match=None)
    catalog.delete_alias(ACME, "adapter", "ada", "prod", if_match=None)
    assert catalog.alias_history("acme", "adapter", "ada", "prod") == (
        AliasMove(4, "key1", "prod", 2, None, ""),
        AliasMove(2, "key1", "prod", 1, 2, "req_1"),
        AliasMove(0, "key1", "prod", None, 1, ""),
    )
    assert [move.alias for move in catalog.alias_history("acme", "adapter", "ada")] == ["prod", "blue", "prod", "prod"]
    assert catalog.alias_history("other", "adapter", "ada") == ()


def test_other_events_of_a_name_hide_no_step_of_its_aliases(catalog, monkeypatch):
    monkeypatch.setattr("serving.registry.reading._HISTORY", 3)
    add(catalog, promote=True)
    for pinned in (True, False, True, False):
        catalog.set_pin(ACME, "adapter", "ada", 1, pinned=pinned)
    catalog.set_alias(ACME, "adapter", "ada", "blue", 1, if_match=None)
    catalog.set_alias(ACME, "adapter", "ada", "prod-2", 1, if_match=None)
    assert [move.alias for move in catalog.alias_history("acme", "adapter", "ada")] == ["prod-2", "blue", "prod"]
    assert len(catalog.alias_history("acme", "adapter", "ada", "prod")) == 1
    assert [move.alias for move in catalog.alias_history("acme", "adapter", "ada", limit=1)] == ["prod-2"]
