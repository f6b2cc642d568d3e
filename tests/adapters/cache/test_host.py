"""Entries in host memory are booked with exactly the bytes they take."""

import pytest

from adapters.cache.host import HostTier, too_large
from adapters.errors import OutOfRoom
from tests.adapters.cache.fakes import Embedding

A, B, C = ("t", "a"), ("t", "b"), ("t", "c")


def test_the_same_digest_of_another_tenant_is_another_entry():
    host = HostTier(100)
    mine, theirs = Embedding(10), Embedding(10)
    host.put(("t", "d"), mine)
    host.put(("u", "d"), theirs)
    assert host.get(("t", "d")) is mine and host.get(("u", "d")) is theirs
    assert host.lru.used == 20 and host.bytes_loaded == 20


def test_a_reservation_is_filled_once_and_empty_until_then():
    host = HostTier(100)
    host.reserve(A, 60)
    assert host.get(A) is None and host.lru.used == 60
    host.put(A, Embedding(60))
    assert host.get(A) is not None and host.lru.used == 60 and host.check() == ()


def test_an_offer_evicts_the_longest_unused_but_not_the_spared():
    host = HostTier(30)
    for key in (A, B, C):
        host.put(key, Embedding(10))
    new = ("t", "new")
    assert host.offer(new, Embedding(15), spare={A})
    assert host.get(A) and not host.get(B) and not host.get(C) and host.evictions == 2
    assert host.check() == ()


def test_an_offer_that_can_not_fit_changes_nothing():
    host = HostTier(30)
    host.put(A, Embedding(20))
    host.lru.lease([A])
    assert not host.offer(B, Embedding(11), spare=())
    assert not host.offer(A, Embedding(20), spare=()), "it is here already"
    assert host.get(A) and host.evictions == 0 and host.bytes_loaded == 20
    with pytest.raises(OutOfRoom):
        host.put(B, Embedding(11))


def test_giving_up_a_reservation_is_no_eviction():
    host = HostTier(30)
    host.reserve(A, 30)
    host.evict(A)
    assert host.evictions == 0 and host.lru.used == 0


def test_drafts_start_from_all_or_from_the_pinned():
    host = HostTier(30)
    host.put(A, Embedding(10))
    host.put(B, Embedding(10))
    host.lru.pin(A)
    draft = host.draft()
    assert draft.fits([4, 6]) and not draft.fits([11])
    draft.give(B)
    assert draft.fits([20]) and not draft.fits([21])
    assert host.bare().fits([20]) and not host.bare().fits([21])
    assert host.lru.used == 20


def test_check_sees_an_entry_that_is_not_booked_and_one_with_other_bytes():
    host = HostTier(30)
    host.put(A, Embedding(10))
    host._entries[B] = Embedding(1)
    assert any("not booked" in fault for fault in host.check())
    del host._entries[B]
    host._entries[A] = Embedding(11)
    assert any("takes 11" in fault for fault in host.check())


def test_the_error_names_the_numbers():
    host = HostTier(30)
    host.put(A, Embedding(10))
    host.lru.pin(A)
    assert "25 bytes in the host tier of 30, of which 10 are pinned" in str(too_large("x", 25, "host", host.lru))
