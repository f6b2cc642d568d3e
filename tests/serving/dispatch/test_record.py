"""Rows with a good record."""

from dataclasses import replace

import numpy as np

from serving.dispatch import record as module
from serving.dispatch.record import Record
from tests.serving.dispatch.worlds import row
from tests.serving.test_affinity import Clock, ref


def test_a_row_is_vouched_for_once_it_was_answered_whoever_sends_it():
    record = Record(Clock())
    assert not record.vouches(row("t1", 1), "a", 0.0)
    record.answered(row("t1", 1))
    assert record.vouches(row("t2", 1), "a", 0.0)
    assert not record.vouches(row("t2", 2), "a", 0.0)


def test_another_content_is_another_row():
    record, one = Record(Clock()), row("t", 1)
    record.answered(one)
    pixels = np.zeros((2, 2, 3), np.uint8)
    for change in (
        {"type_ids": np.array([0, 1], np.int32)},
        {"head": ref("z")},
        {"inserted": 1},
        {"pixels": pixels},
    ):
        assert not record.vouches(replace(one, **change), "a", 0.0)
    record.answered(replace(one, pixels=pixels))
    assert record.vouches(replace(one, pixels=pixels.copy()), "a", 0.0)
    assert not record.vouches(replace(one, pixels=pixels + 1), "a", 0.0)


def test_it_is_vouched_for_in_two_losses_however_many_copies_were_on_board():
    record = Record(Clock())
    record.answered(row("t", 1))
    for replica in "aba":
        assert [record.vouches(row(f"t{i}", 1), replica, 0.0) for i in range(3)] == [True, True, True]
    assert not record.vouches(row("t", 1), "c", 0.0), "a poison takes two"
    record.answered(row("t", 1))
    assert record.vouches(row("t", 1), "c", 0.0)


def test_the_oldest_records_are_forgotten(monkeypatch):
    monkeypatch.setattr(module, "KEPT", 3)
    record = Record(Clock())
    for number in (1, 2, 3, 1, 4, 5):
        record.answered(row("t", number))
    assert [number for number in range(1, 6) if record.vouches(row("t", number), "a", 0.0)] == [1, 4, 5]


def test_it_is_vouched_for_in_other_losses_of_what_had_left_before_the_second_was_seen():
    clock = Clock()
    record = Record(clock)
    record.answered(row("t", 1))
    for clock.now, replica in ((1.0, "a"), (2.0, "b")):
        assert record.vouches(row("t", 1), replica, clock.now)
    clock.now = 3.0
    assert [record.vouches(row("t", 1), "c", left) for left in (1.9, 2.0, 2.5)] == [True, False, False]
    assert [record.vouches(row("t", 1), replica, 2.5) for replica in "ab"] == [True, True], "these themselves"
    record.answered(row("t", 1))
    assert record.vouches(row("t", 1), "c", 2.5)
