import pytest

from serving.errors import Conflict, NotFound, Unprocessable
from serving.registry.change import Change
from serving.registry.records import Tombstone
from serving.registry.versions import nameable, publish
from tests.serving.registry.given import ACME, OTHER, Someone, digest_of, report_of

SHARED = Someone("public", "key3")


def add(catalog, data=b"one", name="ada", *, by=ACME, promote=False):
    return catalog.add_version(by, "adapter", name, report_of(data), promote=promote).value


def test_public_names_are_published_by_their_own_tenant_and_it_publishes_no_others(catalog):
    assert add(catalog, name="public/ada", by=SHARED).version.ref.tenant == "public"
    another, write = "take another name, or a key of that tenant", "write 'public/ada'"
    cases = (ACME, "public/ada", another), (ACME, "public/new", another), (ACME, "public", another)
    for by, name, remedy in (*cases, (SHARED, "ada", write)):
        with pytest.raises(Unprocessable, match=f"belong to the tenant 'public'.*{remedy}") as caught:
            add(catalog, name=name, by=by)
        assert caught.value.code == "public_name"
    assert [key[2] for key in catalog.since(0).names] == ["public/ada"]


def test_nobody_else_moves_or_removes_what_is_public_and_the_rule_is_named(catalog):
    add(catalog, name="public/ada", by=SHARED)
    for name in ("public/ada", "public/never"):
        for write in (
            lambda name: catalog.set_alias(ACME, "adapter", name, "prod", 1, if_match=None),
            lambda name: catalog.delete_alias(ACME, "adapter", name, "prod", if_match=None),
            lambda name: catalog.delete(ACME, "adapter", name, None),
            lambda name: catalog.set_pin(ACME, "adapter", name, 1, pinned=True),
            lambda name: catalog.set_tags(ACME, "adapter", name, 1, {"a": "b"}),
        ):
            with pytest.raises(Unprocessable, match="belong to the tenant 'public'"):
                write(name)
    (record,) = catalog.since(0).names.values()
    assert (record.aliases, record.pinned, record.revision) == ({}, frozenset(), 1)


def test_what_a_tenant_took_before_the_rule_can_be_retired(registry):
    with registry.database.write() as write:
        publish(Change(write, "key1", 1.0), ("acme", "adapter", "public/ada"), report_of(b"one"), ())
    registry.catalog.delete(ACME, "adapter", "public/ada", None)
    assert set(registry.catalog.since(0).names.values()) == {None}


def test_the_backbones_own_vocabulary_is_nobodys_name():
    with pytest.raises(Conflict, match="backbone's own"):
        nameable("acme", "embedding", "default")
    assert nameable("acme", "adapter", "default") == ("acme", "adapter", "default")


def test_a_retired_version_leaves_its_digest_and_who_retired_it(catalog):
    catalog._clock = iter([1.0, 2.0, 3.0, 4.0, 5.0]).__next__
    add(catalog, b"one")
    add(catalog, b"two")
    catalog.delete(ACME, "adapter", "ada", 2)
    again = add(catalog, b"two")
    assert (again.created, again.version.ref.version) == (True, 3)
    catalog.delete(Someone("acme", "key8"), "adapter", "ada", None)
    assert catalog.tombstones("acme", "adapter", "ada") == (
        Tombstone(1, digest_of(b"one"), 5.0, "key8"),
        Tombstone(2, digest_of(b"two"), 3.0, "key1"),
        Tombstone(3, digest_of(b"two"), 5.0, "key8"),
    )
    assert catalog.tombstones("other", "adapter", "ada") == ()


def test_writing_to_a_retired_version_says_that_it_was_there(catalog):
    add(catalog, b"one")
    add(catalog, b"two")
    catalog.delete(ACME, "adapter", "ada", 1)
    for number, code in ((1, "adapter_retired"), (3, "adapter_not_found")):
        with pytest.raises(NotFound) as caught:
            catalog.set_alias(ACME, "adapter", "ada", "prod", number, if_match=None)
        assert caught.value.code == code


def test_another_tenant_is_not_told_what_was_retired(catalog):
    add(catalog, b"one")
    add(catalog, b"two")
    catalog.delete(ACME, "adapter", "ada", 1)
    add(catalog, b"one", by=OTHER)
    with pytest.raises(NotFound) as caught:
        catalog.set_pin(OTHER, "adapter", "ada", 2, pinned=True)
    assert caught.value.code == "adapter_not_found"


def test_publish_and_retire_say_which_bytes(catalog):
    add(catalog, b"one")
    catalog.delete(ACME, "adapter", "ada", 1)
    retired, published = catalog.history("acme", "adapter", "ada")
    told = f'{{"digest":"{digest_of(b"one")}","version":1}}'
    assert (published.before, published.after) == ("", told)
    assert (retired.before, retired.after) == (told, "")
