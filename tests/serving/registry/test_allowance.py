import pytest

from serving.errors import Conflict
from serving.registry.records import Quota
from serving.tenancy.tenants import TenantStore
from tests.serving.registry.given import ACME, OTHER, Someone, report_of

ADMIN = Someone("default", "root")


def add(catalog, data, name="ada", *, by=ACME, space="adapter"):
    kind = "embedding" if space == "embedding" else "adapter"
    return catalog.add_version(by, space, name, report_of(data, kind), promote=False).value


@pytest.fixture
def allow(registry):
    return lambda **quota: TenantStore(registry.database).put(ADMIN, "acme", Quota(**quota))


def test_a_name_too_many_is_refused_with_the_numbers(catalog, allow):
    allow(adapters=2)
    add(catalog, b"one")
    add(catalog, b"words", "kli", space="embedding")
    with pytest.raises(Conflict, match="holds 2 names and asks for 1 more, of 2 ") as caught:
        add(catalog, b"two", "bob")
    assert caught.value.code == "quota_exceeded"
    assert ("acme", "adapter", "bob") not in catalog.since(0).names
    add(catalog, b"three")  # another version is no other name
    add(catalog, b"two", "bob", by=OTHER)
    catalog.delete(ACME, "adapter", "ada", None)
    add(catalog, b"two", "bob")


def test_bytes_count_once_however_many_names_lead_to_them(catalog, allow):
    allow(nbytes=8)
    add(catalog, b"12345")
    add(catalog, b"12345", "bob")
    with pytest.raises(Conflict, match="holds 5 bytes and asks for 4 more, of 8 "):
        add(catalog, b"6789")
    add(catalog, b"678")
    catalog.delete(ACME, "adapter", "ada", 1)
    with pytest.raises(Conflict, match="holds 8 bytes"):
        add(catalog, b"9")
    catalog.delete(ACME, "adapter", "bob", None)
    add(catalog, b"9")


def test_what_is_there_already_is_published_again_beyond_every_quota(catalog, allow):
    add(catalog, b"12345")
    allow(nbytes=1, adapters=0)
    assert not add(catalog, b"12345").created
    with pytest.raises(Conflict):
        add(catalog, b"other")


def test_targets_and_new_vocabularies_count_too(catalog, allow):
    allow(adapters=0)
    with pytest.raises(Conflict, match="holds 0 names"):
        catalog.add_embedding(ACME, "kli", report_of(b"words", "embedding"), activate=True)
    assert catalog.since(0).active == {}


def test_a_quota_that_was_lifted_or_deleted_holds_nobody_back(catalog, allow, registry):
    allow(adapters=0)
    allow()
    add(catalog, b"one")
    allow(adapters=1)
    catalog.delete(ACME, "adapter", "ada", None)
    TenantStore(registry.database).delete(ADMIN, "acme")
    add(catalog, b"one")
    add(catalog, b"two", "bob")
