"""An accusation is looked into by the gateway's own eyes, once, and only then believed."""

import asyncio

import pytest

from serving.errors import NotReady
from serving.registry.blobs.refusals import away
from serving.registry.suspicion import REASONS, Suspicions, Verdict, confine, examine
from tests.serving.registry.given import digest_of

DIGEST = digest_of(b"one")


class Store:
    def __init__(self, *states):
        self.states = list(states)
        self.read = 0

    def state(self, digest):
        self.read += 1
        state = self.states.pop(0) if len(self.states) > 1 else self.states[0]
        if isinstance(state, Exception):
            raise state
        return state


@pytest.fixture
def told():
    return []


@pytest.fixture
def accuse(registry, told):
    asyncio.run(registry.publish(b"one", promote=True))
    now = [100.0]

    def made(*states):
        async def tell(revision):
            told.append(revision)

        store = Store(*states)
        return Suspicions(registry.catalog, store, tell, clock=lambda: now[0]), store, now

    return made


def reason(registry):
    (version,) = registry.catalog.since(0).names["acme", "adapter", "ada"].versions
    return version.quarantined


@pytest.mark.parametrize("state", ["lost", "rotten"])
def test_what_the_store_lost_or_damaged_is_in_quarantine_and_everyone_is_told(registry, accuse, told, state):
    suspicions, store, _ = accuse(state)
    assert asyncio.run(suspicions.report(DIGEST)) == state
    assert reason(registry) == REASONS[state] and store.read == 3
    assert told == [registry.catalog.since(0).revision]


def test_an_engine_with_a_bad_disk_of_its_own_is_not_believed_and_not_heard_again_for_a_while(registry, accuse, told):
    suspicions, store, now = accuse("sound")
    for _ in range(5):
        assert asyncio.run(suspicions.report(DIGEST)) == "sound"
    assert reason(registry) is None and store.read == 1 and told == []
    now[0] += 11
    asyncio.run(suspicions.report(DIGEST))
    assert store.read == 2


def test_one_wrong_read_is_read_again():
    store = Store("rotten", "sound")
    assert examine(store, DIGEST) == "sound" and store.read == 2


def test_many_who_accuse_at_once_are_one(registry, accuse, told):
    suspicions, store, _ = accuse("rotten")

    async def all_at_once():
        return await asyncio.gather(*(suspicions.report(DIGEST) for _ in range(20)))

    assert set(asyncio.run(all_at_once())) == {"rotten"}
    assert store.read == 3 and len(told) == 1 and suspicions.check() == ()


def test_a_second_accusation_later_changes_nothing(registry, accuse, told):
    suspicions, _, _ = accuse("rotten")
    for _ in range(2):
        asyncio.run(suspicions.report(DIGEST))
    assert len(told) == 1


def test_a_store_that_is_away_accuses_nobody_and_the_next_try_works(registry, accuse, told):
    suspicions, _, _ = accuse(away("gone for a moment"), "rotten")
    with pytest.raises(NotReady):
        asyncio.run(suspicions.report(DIGEST))
    assert reason(registry) is None and suspicions.check() == ()
    assert asyncio.run(suspicions.report(DIGEST)) == "rotten"
    assert reason(registry) is not None


def test_who_gives_up_waiting_does_not_end_it_for_the_others(registry, accuse):
    suspicions, _, _ = accuse("rotten")

    async def impatient():
        first = asyncio.create_task(suspicions.report(DIGEST))
        second = asyncio.create_task(suspicions.report(DIGEST))
        await asyncio.sleep(0)
        first.cancel()
        return await second

    assert asyncio.run(impatient()) == "rotten"


def test_a_publish_of_the_right_bytes_ends_the_quarantine(registry, accuse):
    suspicions, _, _ = accuse("rotten")
    asyncio.run(suspicions.report(DIGEST))
    asyncio.run(registry.publish(b"one"))
    assert reason(registry) is None


class Republished(Store):
    """Reads as damaged what another gateway takes out of service and gets whole again before this one writes."""

    def __init__(self, registry):
        super().__init__("rotten", "rotten", "sound")
        self.registry = registry

    def state(self, digest):
        state = super().state(digest)
        if self.read == 2:
            self.registry.catalog.quarantine(digest, REASONS["rotten"])
            asyncio.run(self.registry.publish(b"one"))
        return state


def test_what_was_published_anew_before_a_late_accuser_wrote_is_served_on(registry, accuse, told):
    suspicions, _, _ = accuse("sound")
    suspicions._blobs = Republished(registry)
    assert asyncio.run(suspicions.report(DIGEST)) == "sound"
    assert reason(registry) is None
    assert told == [registry.catalog.since(0).revision]


def test_a_store_that_is_away_when_it_is_asked_again_leaves_the_quarantine_and_it_is_told(registry, accuse, told):
    suspicions, _, _ = accuse("rotten", "rotten", away("gone for a moment"))
    assert asyncio.run(suspicions.report(DIGEST)) == "rotten"
    assert reason(registry) == REASONS["rotten"] and told == [registry.catalog.since(0).revision]


def test_a_quarantine_for_another_reason_is_not_lifted_by_a_look(registry, accuse, told):
    registry.catalog.quarantine(DIGEST, "the operator does not trust it")
    verdict = confine(registry.catalog, Store("sound"), DIGEST, "rotten")
    assert verdict == Verdict("rotten", None) and reason(registry) == "the operator does not trust it"
