import pytest

from serving.errors import Conflict, Forbidden, NotFound
from serving.registry.trail import read_history
from serving.tenancy.store import KeyStore


class Clock:
    """Every look at it is one second later."""

    def __init__(self):
        self.now = -1.0

    def __call__(self):
        self.now += 1.0
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def store(database, clock):
    return KeyStore(database, clock)


def add(store, key_id, tenant="acme", label="", expires=None):
    scopes = frozenset({"publish", "predict"})
    return store.add(key_id, "0" * 64, tenant=tenant, scopes=scopes, label=label, by="cli", expires=expires)


def rotate(store, key_id, new_id, grace_s=10.0, tenant="acme", within=None):
    told = {"new_id": new_id, "secret_sha256": "1" * 64}
    return store.rotate(tenant, key_id, **told, grace_s=grace_s, by="bob", within=within)


def held(store, key_id):
    return next(key for key in store.of("acme") if key.key_id == key_id)


def test_a_key_comes_back_as_it_was_stored(store):
    key = add(store, "one", label="ci", expires=99.5)
    assert store.of("acme") == (key,)
    assert (key.scopes, key.label, key.revoked) == (frozenset({"predict", "publish"}), "ci", False)
    assert (key.expires, key.rotated_from) == (99.5, None)
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
    assert (entries[0].before, entries[0].after) == ('{"revoked":false}', '{"revoked":true}')
    assert entries[1].after == '{"expires":null,"label":"","scopes":["predict","publish"]}'
    assert not any("0" * 64 in entry.after + entry.detail for entry in entries)


def test_a_key_is_good_until_it_expires_or_is_revoked(store):
    key = add(store, "one", expires=50.0)
    assert [key.live(now) for now in (0.0, 49.9, 50.0, 51.0)] == [True, True, False, False]
    store.revoke("acme", "one", "bob")
    assert not held(store, "one").live(1.0)
    assert add(store, "two").live(10.0**12)


def test_a_label_has_two_live_keys_and_no_third(store, clock):
    add(store, "one", label="ci")
    add(store, "two", label="ci", expires=20.0)
    with pytest.raises(Conflict, match=r"'ci' has 2 live keys \(one, two\)") as caught:
        add(store, "three", label="ci")
    assert caught.value.code == "too_many_keys"
    add(store, "three", label="other")
    add(store, "four", tenant="other", label="ci")
    clock.now = 20.0
    add(store, "five", label="ci")
    store.revoke("acme", "one", "bob")
    add(store, "six", label="ci")
    for number in range(5):
        add(store, f"plain{number}")


def test_a_rotated_key_has_an_heir_like_itself_and_ends_after_its_grace(store, clock):
    old = add(store, "one", label="ci")
    seen, _ = store.since(-1)
    clock.now = 99.0
    new = rotate(store, "one", "two", grace_s=10.0)
    assert (new.scopes, new.label, new.expires, new.rotated_from) == (old.scopes, "ci", None, "one")
    assert new.secret_sha256 != old.secret_sha256
    assert held(store, "one").expires == 110.0
    assert {key.key_id for key in store.since(seen)[1]} == {"one", "two"}


def test_an_heir_lives_as_long_as_its_key_did_and_no_grace_makes_a_key_live_longer(store, clock):
    add(store, "one", expires=50.0)  # at 0
    clock.now = 44.0
    assert rotate(store, "one", "two", grace_s=100.0).expires == 95.0
    assert held(store, "one").expires == 50.0


def test_a_key_is_rotated_once_and_again_when_its_heir_was_revoked(store, clock):
    add(store, "one", label="ci", expires=1000.0)
    assert rotate(store, "one", "two", grace_s=50.0).expires == 1001.0
    with pytest.raises(Conflict, match="rotated to 'two' before") as caught:
        rotate(store, "one", "three")
    assert caught.value.code == "already_rotated"
    store.revoke("acme", "two", "bob")
    clock.now = 9.0
    assert rotate(store, "one", "three").expires == 1010.0  # a life of its own, not what is left of the grace


def test_a_key_that_is_not_good_is_not_rotated(store, clock):
    add(store, "one")
    store.revoke("acme", "one", "bob")
    add(store, "two", expires=10.0)
    clock.now = 10.0
    for key_id in ("one", "two"):
        with pytest.raises(Conflict) as caught:
            rotate(store, key_id, "new")
        assert caught.value.code == "key_not_live"
    for tenant, key_id in (("acme", "never"), ("other", "one")):
        with pytest.raises(NotFound):
            rotate(store, key_id, "new", tenant=tenant)
    assert len(store.of("acme")) == 2


def test_the_third_key_of_a_label_is_no_rotation_either(store):
    add(store, "one", label="ci")
    add(store, "two", label="ci")
    with pytest.raises(Conflict, match="2 live keys"):
        rotate(store, "one", "three")
    assert held(store, "one").expires is None


def test_the_audit_tells_a_rotation_from_both_sides(store, database):
    add(store, "one")
    rotate(store, "one", "two", grace_s=5.0)
    with database.read() as connection:
        (rotated, _), (created,) = (read_history(connection, ("acme", "key", key_id), 10) for key_id in ("one", "two"))
    assert (rotated.action, rotated.actor, rotated.before) == ("rotate_key", "bob", '{"expires":null}')
    assert rotated.after == '{"expires":6.0,"rotated_to":"two"}'
    assert (created.action, created.actor) == ("create_key", "bob")


@pytest.mark.parametrize("within", [{"predict"}, {"operate"}, {"operate", "predict"}, set()])
def test_a_key_that_may_do_more_than_whoever_asks_is_neither_rotated_nor_revoked(store, within):
    key = add(store, "one")  # predict and publish
    with pytest.raises(Forbidden, match=r"'one' may do more than the one that asks: (predict, )?publish; ask with"):
        rotate(store, "one", "two", grace_s=0.0, within=frozenset(within))
    with pytest.raises(Forbidden):
        store.revoke("acme", "one", "bob", frozenset(within))
    assert store.of("acme") == (key,)


def test_a_key_that_may_do_as_much_or_less_is_rotated_and_revoked(store):
    add(store, "one")
    assert rotate(store, "one", "two", within=frozenset({"publish", "predict"})).key_id == "two"
    store.revoke("acme", "two", "bob", frozenset({"publish", "predict", "operate"}))
    assert held(store, "two").revoked


def test_what_a_key_may_do_is_told_to_its_own_tenant_alone(store):
    add(store, "one")
    with pytest.raises(NotFound):
        rotate(store, "one", "two", tenant="other", within=frozenset())
