"""How long a step may be."""

import pytest

from serving.scheduler.pace import START_TOKENS, Pace
from serving.scheduler.stride import LONGEST, PARTS, REMEMBERED_S, Stride
from tests.serving.scheduler.machine import Clock

LAYERS, STEP_S, RATE = 2, 0.05, 4_000.0
ORDINARY = 100  # tokens: RATE x STEP_S / LAYERS
STEP = LAYERS * ORDINARY  # its cost


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def stride(clock):
    return Stride(Pace(LAYERS, STEP_S, RATE), clock)


@pytest.mark.parametrize("waiting", [0, STEP, PARTS * STEP])
def test_a_short_queue_has_ordinary_steps(stride, waiting):
    assert stride.tokens(waiting, guests=False) == ORDINARY


def test_a_long_queue_is_done_in_parts_up_to_a_longest_one(stride):
    assert stride.tokens(2 * PARTS * STEP, guests=False) == 2 * ORDINARY
    assert stride.tokens(1000 * PARTS * STEP, guests=False) == LONGEST * ORDINARY


def test_whoever_asks_for_little_keeps_steps_short_for_a_while(stride, clock):
    waiting = 1000 * PARTS * STEP
    assert stride.tokens(waiting, guests=True) == ORDINARY
    clock.now += REMEMBERED_S / 2
    assert stride.tokens(waiting, guests=False) == ORDINARY
    clock.now += REMEMBERED_S / 2
    assert stride.tokens(waiting, guests=False) == LONGEST * ORDINARY


def test_while_nothing_is_known_of_the_machine_steps_are_as_at_the_start(clock):
    assert Stride(Pace(LAYERS, STEP_S), clock).tokens(1000 * STEP, guests=False) == START_TOKENS
