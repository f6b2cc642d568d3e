import pytest

from serving.errors import NotFound
from serving.registry.database import Database
from serving.registry.lookup import read_history
from serving.tenancy.store import KeyStore


@pytest.fixture
def database(tmp_path):
    opened = Database.open(f"sqlite:///{tmp_path / 'registry.sqlite'}")
    yield opened
    opened.close()


@pytest.fixture
def store(database):
    return KeyStore(database, clock=iter(range(100)).__next__)


def add(store, key_id, tenant="acme"):
    return store.add(key_id, "0" * 64, tenant=tenant, scopes=frozenset({"publish", "predict"}), label="ci", by="cli")


def test_a_key_comes_back_as_it_was_stored(store):
    key = add(store, "one")
    assert store.of("acme") == (key,)
    assert (key.scopes, key.label, key.revoked) == (frozenset({"predict", "publish"}), "ci", False)
    assert store.of("other") == ()


def test_keys_are_followed_by_deltas(store):
    seen, none = store.since(-1)
    assert none == ()
    one = add(store, "one")
    seen, changed = store.since(seen)
    assert changed == (one,)
    assert store.since(seen) == (seen, ())
    add(store, "two")
    store.revoke("acme", "one", "bob")
    _, changed = store.since(seen)
    assert {(key.key_id, key.revoked) for key in changed} == {("one", True), ("two", False)}


def test_keys_are_listed_oldest_first_whatever_was_changed_last(store):
    for key_id in ("b", "a", "c"):
        add(store, key_id)
    store.revoke("acme", "b", "bob")
    assert [key.key_id for key in store.of("acme")] == ["b", "a", "c"]


def test_another_tenants_key_is_as_absent_as_an_unknown_one(store):
    add(store, "one")
    for tenant, key_id in (("other", "one"), ("acme", "two")):
        with pytest.raises(NotFound) as caught:
            store.revoke(tenant, key_id, "bob")
        assert caught.value.code == "key_not_found"
    assert not store.of("acme")[0].revoked


def test_the_audit_names_who_made_and_who_revoked_a_key_once(store, database):
    add(store, "one")
    store.revoke("acme", "one", "bob")
    store.revoke("acme", "one", "bob")
    with database.read() as connection:
        entries = read_history(connection, ("acme", "key", "one"), 10)
    assert [(entry.action, entry.actor) for entry in entries] == [("revoke_key", "bob"), ("create_key", "cli")]
