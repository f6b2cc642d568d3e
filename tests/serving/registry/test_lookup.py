import pytest

from tests.serving.registry.given import ACME, OTHER, report_of


@pytest.fixture
def url(any_url):
    return any_url


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
