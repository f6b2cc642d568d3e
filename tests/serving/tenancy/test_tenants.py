from dataclasses import asdict, fields

import pytest

from serving.errors import Conflict, NotFound, Unprocessable
from serving.registry.records import Quota
from serving.tenancy.store import KeyStore
from serving.tenancy.tenants import TenantStore, refuse_bad_quota
from tests.serving.registry.given import Someone, report_of

ADMIN = Someone("default", "root")
FULL = Quota(2.0, 10.0, 1e6, 4, 100, 1 << 40, 1 << 20, 1 << 30)


@pytest.fixture
def clock():
    return iter([float(second) for second in range(100)]).__next__


@pytest.fixture
def tenants(database, clock):
    return TenantStore(database, clock)


def told(catalog, tenant="acme"):
    return [(e.action, e.actor, e.before, e.after) for e in catalog.audit(tenant, after=0, limit=99)][::-1]


def test_a_tenant_comes_back_as_it_was_put(tenants):
    put = tenants.put(ADMIN, "acme", FULL)
    assert put == tenants.get("acme")
    assert (put.name, put.quota, put.created) == ("acme", FULL, 0.0)
    tenants.put(ADMIN, "abel", Quota())
    assert [tenant.name for tenant in tenants.all()] == ["abel", "acme"]


def test_a_quota_is_replaced_as_a_whole_and_the_tenant_stays_as_old_as_it_is(tenants):
    first = tenants.put(ADMIN, "acme", FULL)
    second = tenants.put(ADMIN, "acme", Quota(weight=3.0))
    assert (second.quota, second.created) == (Quota(weight=3.0), first.created)
    assert second.revision > first.revision


def test_the_same_quota_again_changes_nothing(tenants, catalog):
    first = tenants.put(ADMIN, "acme", FULL)
    assert tenants.put(ADMIN, "acme", FULL) == first
    assert len(told(catalog)) == 1
    assert catalog.since(first.revision).quotas == {}


def test_the_audit_says_what_it_was_and_what_it_is(tenants, catalog):
    tenants.put(ADMIN, "acme", Quota())
    tenants.put(ADMIN, "acme", Quota(weight=2.0))
    tenants.delete(ADMIN, "acme")
    (first, second, last), plain = told(catalog), asdict(Quota())
    assert [row[:2] for row in (first, second, last)] == [
        ("put_tenant", "root"),
        ("put_tenant", "root"),
        ("delete_tenant", "root"),
    ]
    assert (first[2], last[3]) == ("", "")
    assert second[2] == first[3]
    assert second[3] == last[2]
    assert '"weight":2.0' in second[3]
    assert all(f'"{name}":' in first[3] for name in plain)


def test_a_tenant_that_was_never_put_is_not_there(tenants):
    for call in (tenants.get, lambda name: tenants.delete(ADMIN, name)):
        with pytest.raises(NotFound) as caught:
            call("acme")
        assert caught.value.code == "tenant_not_found"
    assert tenants.all() == ()


def test_a_tenant_with_names_or_live_keys_stays(tenants, catalog, database):
    tenants.put(ADMIN, "acme", FULL)
    acme, keys = Someone("acme", "key1"), KeyStore(database, lambda: 50.0)
    catalog.add_version(acme, "adapter", "ada", report_of(b"one"), promote=False)
    for key_id, expires in (("one", None), ("two", 3.0)):
        keys.add(key_id, "0" * 64, tenant="acme", scopes=frozenset({"predict"}), label="", by="cli", expires=expires)
    with pytest.raises(Conflict, match="has 1 names and 2 live keys") as caught:
        tenants.delete(ADMIN, "acme")  # at 1: the second key lives until 3
    assert caught.value.code == "tenant_in_use"
    catalog.delete(acme, "adapter", "ada", None)
    with pytest.raises(Conflict, match="has 2 live keys"):
        tenants.delete(ADMIN, "acme")
    keys.revoke("acme", "one", "cli")
    tenants.delete(ADMIN, "acme")  # at 3
    with pytest.raises(NotFound):
        tenants.get("acme")


def test_a_deleted_tenant_may_be_put_again_and_is_young_again(tenants, catalog):
    tenants.put(ADMIN, "acme", FULL)
    tenants.delete(ADMIN, "acme")
    again = tenants.put(ADMIN, "acme", FULL)
    assert (again.quota, again.created) == (FULL, 2.0)
    assert told(catalog)[-1][2] == ""
    assert catalog.since(0).quotas == {"acme": FULL}


def test_a_tenant_is_one_segment(tenants):
    for name in ("Acme", "a/b", "", "x" * 64):
        with pytest.raises(Unprocessable) as caught:
            tenants.put(ADMIN, name, Quota())
        assert caught.value.faults[0].pointer == "/name"
    assert tenants.put(ADMIN, "x" * 63, Quota()).name == "x" * 63


@pytest.mark.parametrize(
    ("quota", "pointers"),
    [
        (Quota(weight=0.0), ["/weight"]),
        (Quota(weight=float("nan")), ["/weight"]),
        (Quota(weight=1001.0), ["/weight"]),
        (Quota(requests_per_s=0.0, cost_per_s=float("inf")), ["/requests_per_s", "/cost_per_s"]),
        (Quota(concurrency=-1, adapters=1 << 31), ["/concurrency", "/adapters"]),
        (Quota(nbytes=-1), ["/nbytes"]),
        (Quota(device_floor=-1), ["/device_floor"]),
        (Quota(device_floor=2, device_ceiling=1), ["/device_ceiling"]),
    ],
)
def test_every_field_that_makes_no_sense_is_named(tenants, quota, pointers):
    with pytest.raises(Unprocessable) as caught:
        tenants.put(ADMIN, "acme", quota)
    assert [fault.pointer for fault in caught.value.faults] == pointers
    assert caught.value.code == "invalid_quota"
    assert tenants.all() == ()


def test_the_largest_quota_that_is_taken_is_stored(tenants):
    largest = Quota(1000.0, 1e300, 1e300, (1 << 31) - 1, (1 << 31) - 1, 1 << 53, 1 << 53, 1 << 53)
    refuse_bad_quota(largest)
    assert tenants.put(ADMIN, "acme", largest).quota == largest
    assert tenants.put(ADMIN, "acme", Quota(concurrency=0, adapters=0, nbytes=0)).quota.nbytes == 0
    assert {field.name for field in fields(Quota)} == set(asdict(tenants.get("acme").quota))
