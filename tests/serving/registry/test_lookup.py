from dataclasses import replace

import pytest
from sqlalchemy import event

from adapters.manifest import from_json
from serving.registry.lookup import read_delta, read_quota, read_version
from serving.registry.records import Quota
from serving.tenancy.tenants import TenantStore
from tests.serving.registry.given import ACME, OTHER, digest_of, open_registry, report_of

KEY = ("acme", "adapter", "ada")


def add(catalog, name, data=b"one", by=ACME):
    return catalog.add_version(by, "adapter", name, report_of(data), promote=False)


def test_a_delta_holds_what_changed_since_a_revision_and_nothing_else(catalog):
    add(catalog, "ada")
    seen = add(catalog, "bob").revision
    last = add(catalog, "cid", by=OTHER).revision
    delta = catalog.since(seen)
    assert delta.revision == last
    assert list(delta.names) == [("other", "adapter", "cid")]
    assert set(catalog.since(0).names) == {("acme", "adapter", "ada"), ("acme", "adapter", "bob"), *delta.names}


def test_nothing_new_is_an_empty_delta(catalog):
    seen = add(catalog, "ada").revision
    delta = catalog.since(seen)
    assert (delta.revision, dict(delta.names), dict(delta.active)) == (seen, {}, {})


def test_a_retired_name_travels_as_none_and_comes_back_whole(catalog):
    seen = add(catalog, "ada").revision
    seen = catalog.delete(ACME, "adapter", "ada", None).revision
    assert catalog.since(seen - 1).names == {("acme", "adapter", "ada"): None}
    add(catalog, "ada", b"two")
    (record,) = catalog.since(seen).names.values()
    assert [version.ref.version for version in record.versions] == [2]


def test_aliases_and_pins_of_one_name_do_not_reach_another(catalog):
    for name in ("ada", "bob"):
        add(catalog, name)
    catalog.set_alias(ACME, "adapter", "ada", "blue", 1, if_match=None)
    catalog.set_pin(ACME, "adapter", "bob", 1, pinned=True)
    names = catalog.since(0).names
    ada, bob = names["acme", "adapter", "ada"], names["acme", "adapter", "bob"]
    assert (ada.aliases, ada.pinned) == ({"blue": 1}, frozenset())
    assert (bob.aliases, bob.pinned) == ({}, frozenset({1}))


def test_versions_come_in_the_order_of_their_numbers(catalog):
    for number in range(12):
        add(catalog, "ada", bytes([number]))
    (record,) = catalog.since(0).names.values()
    assert [version.ref.version for version in record.versions] == list(range(1, 13))


def test_numbers_ever_given_travel_with_live_and_with_retired_names(catalog):
    for data in (b"one", b"two"):
        add(catalog, "ada", data)
    catalog.delete(ACME, "adapter", "ada", 2)
    assert catalog.since(0).names["acme", "adapter", "ada"].last == 2
    assert catalog.since(0).last == {}
    seen = catalog.delete(ACME, "adapter", "ada", None).revision
    assert catalog.since(seen - 1).last == {("acme", "adapter", "ada"): 2}


def test_quotas_are_read_as_put_and_travel_once(registry):
    tenants = TenantStore(registry.database)
    quota = Quota(0.5, 1.5, 2.5, 3, 4, 5, 6, 7)
    tenants.put(ACME, "acme", quota)
    delta = registry.catalog.since(0)
    assert delta.quotas == {"acme": quota}
    tenants.put(ACME, "other", Quota())
    assert registry.catalog.since(delta.revision).quotas == {"other": Quota()}
    tenants.delete(ACME, "acme")
    assert registry.catalog.since(delta.revision).quotas == {"other": Quota(), "acme": None}
    with registry.database.read() as connection:
        assert (read_quota(connection, "other"), read_quota(connection, "acme")) == (Quota(), Quota())


def test_tags_and_quarantine_stand_with_their_version(catalog):
    for data in (b"one", b"two"):
        add(catalog, "ada", data)
        add(catalog, "bob", data)
    catalog.set_tags(ACME, "adapter", "ada", 2, {"stage": "gold"})
    catalog.quarantine(digest_of(b"one"), "bit rot")
    names = catalog.since(0).names
    told = {str(v.ref): (dict(v.tags), v.quarantined) for record in names.values() for v in record.versions}
    assert told == {
        "acme:ada@1": ({}, "bit rot"),
        "acme:ada@2": ({"stage": "gold"}, None),
        "acme:bob@1": ({}, "bit rot"),
        "acme:bob@2": ({}, None),
    }


def test_one_version_is_read_as_it_stands_among_the_others(registry):
    for data in (b"one", b"two"):
        add(registry.catalog, "ada", data)
        add(registry.catalog, "bob", data)
    registry.catalog.set_tags(ACME, "adapter", "ada", 1, {"stage": "old"})
    registry.catalog.set_tags(ACME, "adapter", "ada", 2, {"stage": "gold"})
    registry.catalog.quarantine(digest_of(b"two"), "bit rot")
    (record,) = [r for key, r in registry.catalog.since(0).names.items() if key[2] == "ada"]
    with registry.database.read() as connection:
        found = [read_version(connection, ("acme", "adapter", "ada"), number, from_json) for number in (1, 2, 3)]
    assert found == [*record.versions, None]
    assert found[1].quarantined == "bit rot"


def delta(registry, seen, record, parse=from_json):
    with registry.database.read() as connection:
        return read_delta(connection, seen, parse, lambda key: record if key == KEY else None).names[KEY]


def test_versions_that_are_held_are_not_read_again(registry):
    for number in range(40):
        seen = add(registry.catalog, "ada", bytes([number])).revision
    (held,) = registry.catalog.since(0).names.values()
    read = []

    def parse(text):
        read.append(text)
        return from_json(text)

    add(registry.catalog, "ada", b"new")
    grown = delta(registry, seen, held, parse)
    assert [version.ref.version for version in grown.versions] == list(range(1, 42)) and len(read) == 1
    assert all(a is b for a, b in zip(held.versions, grown.versions, strict=False))
    assert grown == registry.catalog.since(0).names[KEY]


def test_what_is_said_of_held_versions_is_heard(registry):
    for data in (b"one", b"two", b"three"):
        seen = add(registry.catalog, "ada", data).revision
    (held,) = registry.catalog.since(0).names.values()
    registry.catalog.set_tags(ACME, "adapter", "ada", 2, {"a": "b"})
    registry.catalog.quarantine(digest_of(b"one"), "rotten")
    registry.catalog.delete(ACME, "adapter", "ada", 3)
    heard = delta(registry, seen, held)
    assert [(v.ref.version, dict(v.tags), v.quarantined) for v in heard.versions] == [
        (1, {}, "rotten"),
        (2, {"a": "b"}, None),
    ]
    registry.catalog.set_tags(ACME, "adapter", "ada", 2, {})
    again = delta(registry, seen, heard)
    assert again == registry.catalog.since(0).names[KEY] and again.versions[1].tags == {}


@pytest.mark.parametrize("lost", [1, 40])
def test_a_number_that_came_again_with_other_bytes_is_read_again(registry, lost):
    for number in range(40):
        seen = add(registry.catalog, "ada", bytes([number])).revision
    (true,) = registry.catalog.since(0).names.values()
    others = [replace(v, ref=replace(v.ref, digest=digest_of(b"x"))) for v in true.versions[-lost:]]
    stale = replace(true, versions=(*true.versions[:-lost], *others))
    assert delta(registry, seen - 1, stale) == true


def test_names_beside_the_changed_one_are_not_mixed_with_it(registry):
    seen = add(registry.catalog, "ada").revision
    (held,) = registry.catalog.since(0).names.values()
    add(registry.catalog, "ada", b"two")
    add(registry.catalog, "ada", b"three", by=OTHER)
    with registry.database.read() as connection:
        names = read_delta(connection, seen, from_json, lambda key: held if key == KEY else None).names
    assert names == dict(registry.catalog.since(0).names)
    assert [v.ref.tenant for v in names["other", "adapter", "ada"].versions] == ["other"]


def test_a_publish_and_what_is_read_of_it_look_through_no_table_of_versions(tmp_path):
    registry = open_registry(tmp_path)
    for number in range(3):
        seen = add(registry.catalog, "ada", bytes([number])).revision
    (held,) = registry.catalog.since(0).names.values()
    asked = []
    event.listen(registry.database._engine, "before_cursor_execute", lambda *call: asked.append(call[2:4]))
    add(registry.catalog, "ada", b"new")
    registry.catalog.add_version(ACME, "adapter", "bob", report_of(b"bob"), promote=True)
    assert len(delta(registry, seen, held).versions) == 4
    told = [(statement, values) for statement, values in asked if not statement.startswith(("BEGIN", "INSERT"))]
    with registry.database.read() as connection:
        plans = [
            f"{step.detail}: {statement}"
            for statement, values in told
            for step in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", values)
        ]
    assert len(told) > 20 and any("SEARCH versions" in plan for plan in plans)
    grown = [plan for plan in plans if plan.startswith("SCAN") and not plan.startswith("SCAN meta")]
    assert not grown, grown
    registry.database.close()
