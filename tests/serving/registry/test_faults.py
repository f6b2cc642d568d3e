"""Every statement of every write fails once, at n = 1, 2, ..., and the clock jumps: nothing is torn, and the audit tells what is there."""

import asyncio
import time
from itertools import count

import pytest

from serving.errors import Conflict, NotReady
from serving.registry.garbage import collect
from serving.registry.records import Once, Quota
from serving.tenancy.keys import Keyring, create_key, rotate_key
from serving.tenancy.store import KeyStore
from serving.tenancy.tenants import TenantStore
from tests.serving.jumping import HOUR, Jumping
from tests.serving.registry.effects import Statements, fail
from tests.serving.registry.given import ACME, Someone, digest_of, fresh_data, report_of, stream
from tests.serving.registry.ledger import stored, told

PREDICT = frozenset({"predict"})
ONCE = Once("k1", "f" * 64)


def publish(registry):
    registry.catalog.add_version(ACME, "adapter", "ada", report_of(b"new"), promote=True, once=ONCE)


def publish_a_name(registry):
    registry.catalog.add_version(ACME, "adapter", "new", report_of(b"new"), promote=True)


def heal(registry):
    registry.catalog.add_version(ACME, "adapter", "bad", report_of(b"bad"), promote=False)


def new_vocabulary(registry):
    registry.catalog.add_embedding(ACME, "vulcan", report_of(b"live long", "embedding"), activate=True, once=ONCE)


def move(registry):
    registry.catalog.set_alias(ACME, "adapter", "ada", "prod", 2, if_match=None)


def drop_alias(registry):
    registry.catalog.delete_alias(ACME, "adapter", "ada", "prod", if_match=None)


def pin(registry):
    registry.catalog.set_pin(ACME, "adapter", "ada", 2, pinned=True)


def tag(registry):
    registry.catalog.set_tags(ACME, "adapter", "ada", 1, {"a": "2", "b": "1"})


def retire(registry):
    registry.catalog.delete(ACME, "adapter", "old", None)


def retire_the_active_vocabulary(registry):
    registry.catalog.delete(ACME, "embedding", "klingon", None)


def confine(registry):
    registry.catalog.quarantine(digest_of(b"one"), "bit rot")


def make_a_key(registry):
    create_key(KeyStore(registry.database), "acme", PREDICT, "ci", by="cli")


def rotate_a_key(registry):
    rotate_key(KeyStore(registry.database), "acme", registry.key_id, 60.0, by="cli")


def revoke_a_key(registry):
    KeyStore(registry.database).revoke("acme", registry.key_id, "cli")


def put_a_tenant(registry):
    TenantStore(registry.database).put(ACME, "acme", Quota(weight=2.0))


def delete_a_tenant(registry):
    TenantStore(registry.database).delete(ACME, "empty")


WRITES = (
    publish,
    publish_a_name,
    heal,
    new_vocabulary,
    move,
    drop_alias,
    pin,
    tag,
    retire,
    retire_the_active_vocabulary,
    confine,
    make_a_key,
    rotate_a_key,
    revoke_a_key,
    put_a_tenant,
    delete_a_tenant,
)


@pytest.fixture
def busy(registry):
    """Something of everything."""
    catalog, tenants = registry.catalog, TenantStore(registry.database)
    tenants.put(ACME, "acme", Quota(adapters=100, nbytes=1000))
    tenants.put(ACME, "empty", Quota())
    for name, data in (("ada", b"one"), ("ada", b"two"), ("old", b"one"), ("old", b"six"), ("bad", b"bad")):
        catalog.add_version(ACME, "adapter", name, report_of(data), promote=False)
    catalog.add_version(Someone("other"), "adapter", "ada", report_of(b"one"), promote=True)
    catalog.add_version(ACME, "embedding", "klingon", report_of(b"words", "embedding"), promote=False)
    catalog.set_active_embedding(ACME, "klingon")
    catalog.set_alias(ACME, "adapter", "ada", "prod", 1, if_match=None)
    catalog.set_tags(ACME, "adapter", "ada", 1, {"a": "1"})
    catalog.quarantine(digest_of(b"bad"), "bit rot")
    registry.key_id = create_key(KeyStore(registry.database), "acme", PREDICT, "ci", by="cli").record.key_id
    assert stored(registry) == told(registry)
    return registry


@pytest.mark.parametrize("write", WRITES, ids=lambda write: write.__name__)
def test_a_write_that_fails_at_any_statement_is_undone_whole_and_works_the_next_time(busy, write):
    before, audit = stored(busy), busy.catalog.audit(None, after=0, limit=999)
    for at in count(1):
        with Statements(busy.database, fail, at) as statements:
            try:
                write(busy)
            except NotReady as refusal:
                assert refusal.code == "registry_unavailable"
            else:
                break
        assert len(statements.seen) == at
        assert stored(busy) == before
        assert busy.catalog.audit(None, after=0, limit=999) == audit
    assert at > 3
    assert statements.seen[-1] == "commit"
    after = stored(busy)
    assert after != before
    assert after == told(busy)


@pytest.mark.parametrize("write", WRITES, ids=lambda write: write.__name__)
def test_a_write_whose_answer_is_lost_is_there_whole_and_may_be_asked_for_again(busy, write):
    before = stored(busy)
    with Statements(busy.database, fail, 1, late=True), pytest.raises(NotReady):
        write(busy)
    after = stored(busy)
    assert after != before
    assert after == told(busy)
    if write in (publish, new_vocabulary, publish_a_name, heal, move, pin, tag, confine, put_a_tenant, revoke_a_key):
        write(busy)
        assert stored(busy) == after
    elif write is rotate_a_key:
        with pytest.raises(Conflict, match="before: revoke that one first"):
            write(busy)
        assert stored(busy) == after


def test_a_read_that_fails_says_so_and_the_next_one_is_whole(busy):
    whole = busy.catalog.since(0)
    for at in count(1):
        with Statements(busy.database, fail, at):
            try:
                assert busy.catalog.since(0) == whole
            except NotReady:
                continue
        break
    assert at > 5


class Day:
    """What a tenant does in a day, by one clock; every act of it works."""

    def __init__(self, registry, clock, key):
        registry.catalog._clock = clock
        self.registry, self.clock, self.key = registry, clock, key
        self.store = KeyStore(registry.database, clock)

    def run(self):
        catalog, data = self.registry.catalog, fresh_data(self.registry.blobs)
        first, again = self.put(data), self.put(data)
        assert again.replayed
        assert again.version == first.version
        number = first.version.ref.version
        catalog.set_alias(ACME, "adapter", "ada", "prod", number, if_match=None)
        self.admits(create_key(self.store, "acme", PREDICT, self.key, by="cli"))
        catalog.delete_alias(ACME, "adapter", "ada", "prod", if_match=None)
        catalog.delete(ACME, "adapter", "ada", number)
        collect(self.registry.database, self.registry.blobs, grace_s=HOUR / 2, clock=self.clock)

    def put(self, data):
        publish = self.registry.publisher.publish
        asked = publish(
            ACME, "adapter", "ada", stream(data), promote=False, once=lambda _: Once(self.key, digest_of(data)[-64:])
        )
        return asyncio.run(asked)

    def admits(self, made):
        heir = rotate_key(self.store, "acme", made.record.key_id, 60.0, by="cli")
        keyring = Keyring(self.registry.database, loopback_only=True, wall=self.clock)
        assert asyncio.run(keyring.authenticate(heir.secret)).key_id == heir.record.key_id


@pytest.mark.parametrize("by", [HOUR, -HOUR], ids=["forward", "back"])
def test_a_clock_that_jumps_at_any_look_tears_nothing_and_the_next_request_works(registry, by):
    for at in count(1):
        clock = Jumping(time.time, at, by)
        Day(registry, clock, f"key {at}").run()
        jumped = clock.jumped
        assert stored(registry) == told(registry), at
        assert registry.uploads() == []
        assert registry.blobs.check() == ()
        Day(registry, clock, f"key {at}, later").run()
        if not jumped:
            break
    assert at > 10
