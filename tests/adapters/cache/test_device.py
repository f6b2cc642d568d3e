"""Slots hold exactly one adapter's weights each, in one arena."""

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from adapters.cache.device import DeviceTier
from adapters.weights import ALIGN, Adapter, Span
from tests.adapters.cache.fakes import MANIFEST, UNIT, adapter

A, B, C = ("t", "a"), ("t", "b"), ("t", "c")


def load(tier, key, entry):
    tier.reserve(key, tier.nbytes(entry))
    tier.publish(key, tier.write(key, entry))
    return tier.get(key)


def test_a_budget_is_cut_to_whole_units():
    tier = DeviceTier(3 * UNIT + 5)
    assert tier.budget == 3 * UNIT and tier.arena.numel() == 3 * ALIGN


def test_a_view_reads_the_slot_and_no_host_memory_is_held():
    tier = DeviceTier(10 * UNIT)
    load(tier, A, adapter(1.0, 2))
    flat = torch.arange(3 * ALIGN, dtype=torch.float32)
    held = load(tier, B, Adapter(MANIFEST, {}, None, {}, None, flat))
    assert held.start == 2
    assert torch.equal(held.view(Span(1, (2, 8))), flat[ALIGN : ALIGN + 16].view(2, 8))
    assert held.adapter.flat.untyped_storage().data_ptr() == tier.arena.untyped_storage().data_ptr()
    assert held.adapter.nbytes == 3 * UNIT and tier.bytes_loaded == 5 * UNIT


def test_an_adapter_longer_than_a_chunk_arrives_whole(monkeypatch):
    tier = DeviceTier(10 * UNIT)
    tier._chunk = 50
    flat = torch.arange(10 * ALIGN, dtype=torch.float32)
    held = load(tier, A, Adapter(MANIFEST, {}, None, {}, None, flat))
    assert torch.equal(held.arena, flat)
    tier.evict(A)
    tier.wipe()
    assert not tier.arena.any()


def test_the_arena_decides_the_dtype():
    tier = DeviceTier(10 * UNIT, torch.bfloat16)
    held = load(tier, A, adapter(1.0, 3))
    assert held.adapter.flat.dtype is torch.bfloat16 and tier.lru.used == 3 * ALIGN * 2
    assert tier.check() == ()


def test_weights_that_require_grad_are_copied_without_it():
    tier = DeviceTier(UNIT)
    flat = torch.ones(ALIGN, requires_grad=True)
    assert not load(tier, A, Adapter(MANIFEST, {}, None, {}, None, flat)).arena.requires_grad


def test_an_empty_adapter_has_a_slot_of_nothing_even_in_a_full_arena():
    tier = DeviceTier(UNIT)
    load(tier, A, adapter(1.0, 1))
    held = load(tier, B, adapter(0.0, 0))
    assert held.adapter.nbytes == 0 and tier.check() == ()
    tier.evict(B)
    tier.wipe()
    assert tier.arena.all()


def test_a_reserved_slot_is_not_there_until_it_is_published():
    tier = DeviceTier(UNIT)
    entry = adapter(1.0, 1)
    tier.reserve(A, UNIT)
    assert tier.get(A) is None
    held = tier.write(A, entry)
    assert tier.get(A) is None
    tier.publish(A, held)
    assert tier.get(A) is held


def test_evicted_weights_are_wiped_before_the_slot_is_written_again():
    tier = DeviceTier(4 * UNIT)
    load(tier, A, adapter(7.0, 4))
    tier.evict(A)
    assert tier.dirty and tier.evictions == 1
    held = load(tier, B, adapter(1.0, 1))
    assert not tier.dirty
    assert (held.adapter.flat == 1).all() and tier.arena.sum() == ALIGN


def test_every_use_of_a_slot_has_its_own_generation():
    tier = DeviceTier(UNIT)
    first = load(tier, A, adapter(1.0, 1))
    tier.evict(A)
    second = load(tier, A, adapter(1.0, 1))
    assert first.start == second.start and first.generation < second.generation


def test_what_was_written_for_an_earlier_use_can_not_be_published():
    tier = DeviceTier(UNIT)
    tier.reserve(A, UNIT)
    stale = tier.write(A, adapter(1.0, 1))
    tier.evict(A)
    tier.reserve(A, UNIT)
    with pytest.raises(AssertionError):
        tier.publish(A, stale)


def test_drafts_know_fragments():
    tier = DeviceTier(6 * UNIT)
    for key in (A, B, C):
        load(tier, key, adapter(1.0, 2))
    draft = tier.draft()
    draft.give(A)
    draft.give(C)
    assert draft.fits([2 * UNIT, 2 * UNIT]) and not draft.fits([3 * UNIT])
    draft.give(B)
    assert draft.fits([6 * UNIT])
    assert tier.draft().far([A, C, B]) == [C, B, A]
    tier.lru.pin(B)
    assert tier.bare().fits([4 * UNIT]) and not tier.bare().fits([2 * UNIT, 3 * UNIT]), "pins can be moved together"


def test_a_copy_outlives_its_slot():
    tier = DeviceTier(4 * UNIT)
    tier.reserve(A, UNIT)
    assert tier.copy(A) is None and tier.copy(B) is None
    tier.publish(A, tier.write(A, adapter(7.0, 1)))
    held = tier.copy(A)
    tier.evict(A)
    tier.wipe()
    assert (held.flat == 7).all() and held.nbytes == UNIT


def test_check_sees_two_owners_of_a_unit_and_a_stale_resident():
    tier = DeviceTier(4 * UNIT)
    load(tier, A, adapter(1.0, 2))
    load(tier, B, adapter(1.0, 2))
    assert tier.check() == ()
    tier._slots[A].generation += 100
    assert any("another use" in fault for fault in tier.check())
    tier._slots[A].generation = tier._slots[B].generation
    assert any("share a generation" in fault for fault in tier.check())
    tier._slots[A].run = tier._slots[B].run
    assert any("twice" in fault for fault in tier.check())


class Machine(RuleBasedStateMachine):
    """Whatever comes and goes, a leased slot keeps its own weights, and free units hold zeros."""

    keys = st.sampled_from([("t", name) for name in "abcdef"])

    def __init__(self):
        super().__init__()
        self.tier = DeviceTier(24 * UNIT)
        self.values = {}
        self.count = 0
        self.leases = []

    @rule(key=keys, units=st.integers(0, 10))
    def load(self, key, units):
        if key in self.values or not self.tier.draft().fits([units * UNIT]):
            return
        self.count += 1
        held = load(self.tier, key, adapter(self.count, units))
        self.values[key] = (self.count, held)

    @rule(key=keys)
    def evict(self, key):
        if key in set(self.tier.lru.victims()):
            self.tier.evict(key)
            del self.values[key]

    @rule(key=keys)
    def lease(self, key):
        assert self.tier.lru.lease([key]) == (key in self.values)
        if key in self.values:
            self.leases.append((key, self.values[key]))

    @precondition(lambda self: self.leases)
    @rule()
    def release(self):
        self.tier.lru.release([self.leases.pop()[0]])

    @invariant()
    def every_slot_has_its_own_weights(self):
        assert self.tier.check() == ()
        for value, held in self.values.values():
            assert (held.adapter.flat == value).all()
        for key, (value, held) in self.leases:
            assert self.tier.get(key) is held and (held.adapter.flat == value).all()

    @invariant()
    def free_units_are_zero_once_wiped(self):
        self.tier.wipe()
        expected = sum(value * held.adapter.flat.numel() for value, held in self.values.values())
        assert self.tier.arena.sum() == expected


TestMachine = Machine.TestCase
TestMachine.settings = settings(max_examples=40, stateful_step_count=30, deadline=None, derandomize=True)
