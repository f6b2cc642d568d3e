import pytest

from serving.errors import Conflict, NotFound
from tests.serving.registry.given import ACME, OTHER, Someone, report_of

SHARED = Someone("public", "key3")


def add(catalog, name, *, by=ACME):
    catalog.add_version(by, "embedding", name, report_of(name.encode(), "embedding"), promote=False)


def told(catalog, tenant):
    return [(e.before, e.after) for e in catalog.audit(tenant, after=0, limit=99, action="activate")][::-1]


def test_each_change_says_what_was_active_before(catalog):
    add(catalog, "klingon")
    for name in ("klingon", "klingon", None, "default"):
        catalog.set_active_embedding(ACME, name)
    assert told(catalog, "acme") == [
        ('{"active":"default"}', '{"active":"klingon"}'),
        ('{"active":"klingon"}', '{"active":"default"}'),
    ]


def test_a_public_vocabulary_may_be_active_for_everybody(catalog):
    add(catalog, "public/klingon", by=SHARED)
    for actor in (ACME, SHARED):
        catalog.set_active_embedding(actor, "public/klingon")
    assert catalog.since(0).active == {"acme": "public/klingon", "public": "public/klingon"}
    with pytest.raises(NotFound):
        catalog.set_active_embedding(OTHER, "public/vulcan")


def test_a_public_vocabulary_stays_while_others_have_it_active(catalog):
    add(catalog, "public/klingon", by=SHARED)
    catalog.set_active_embedding(ACME, "public/klingon")
    catalog.set_active_embedding(SHARED, "public/klingon")
    with pytest.raises(Conflict, match=r"other tenants \(1\), whose active vocabulary") as caught:
        catalog.delete(SHARED, "embedding", "public/klingon", None)
    assert "acme" not in caught.value.detail
    catalog.set_active_embedding(ACME, None)
    catalog.delete(SHARED, "embedding", "public/klingon", None)
    assert catalog.since(0).active == {"acme": None, "public": None}


def test_an_older_version_of_it_may_go(catalog):
    add(catalog, "public/klingon", by=SHARED)
    catalog.add_version(SHARED, "embedding", "public/klingon", report_of(b"two", "embedding"), promote=False)
    catalog.set_active_embedding(ACME, "public/klingon")
    catalog.delete(SHARED, "embedding", "public/klingon", 1)
    with pytest.raises(Conflict):
        catalog.delete(SHARED, "embedding", "public/klingon", 2)


def test_a_private_vocabulary_of_the_same_name_holds_nothing(catalog):
    add(catalog, "klingon")
    add(catalog, "klingon", by=OTHER)
    catalog.set_active_embedding(OTHER, "klingon")
    catalog.delete(ACME, "embedding", "klingon", None)
    assert catalog.since(0).active == {"other": "klingon"}
