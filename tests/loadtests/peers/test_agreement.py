import json

import numpy as np
import pytest

from loadtests.peers.agreement import agreement

REFERENCE = np.random.default_rng(0).normal(size=(40, 16)).astype(np.float32)


def test_the_same_answers_agree():
    found = agreement(REFERENCE.copy(), REFERENCE, "fp32")
    assert found.holds
    assert found.distance == 0
    assert found.least_cosine == pytest.approx(1)


def test_float32_may_not_be_as_far_as_bfloat16():
    near = REFERENCE + np.float32(0.01)
    assert not agreement(near, REFERENCE, "fp32").holds
    assert agreement(near, REFERENCE, "bf16").holds
    assert agreement(REFERENCE + np.float32(1e-5), REFERENCE, "fp32").holds


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_one_token_that_is_another_is_seen(precision):
    swapped = REFERENCE.copy()
    swapped[7] = REFERENCE[8]
    found = agreement(swapped, REFERENCE, precision)
    assert not found.holds
    assert found.least_cosine < 0.9
    assert found.distance == pytest.approx(np.abs(REFERENCE[7] - REFERENCE[8]).max())


def test_many_small_turns_are_seen_though_each_might_be_rounding():
    noise = np.random.default_rng(1).normal(size=REFERENCE.shape).astype(np.float32) * 0.06
    found = agreement(REFERENCE + noise, REFERENCE, "bf16")
    assert found.least_cosine > 0.99
    assert not found.holds


@pytest.mark.parametrize("wrong", [REFERENCE[:-1], np.full_like(REFERENCE, np.nan), REFERENCE.T])
def test_another_shape_or_no_number_does_not_hold_and_is_null_in_json(wrong):
    found = agreement(wrong, REFERENCE, "bf16")
    assert not found.holds
    assert json.loads(json.dumps(found.json(), allow_nan=False))["distance"] is None


def test_a_row_of_zeros_does_not_divide_by_nothing():
    assert not agreement(np.zeros_like(REFERENCE), REFERENCE, "bf16").holds


def test_a_single_token_among_many_may_not_turn_though_the_mean_hides_it():
    many = np.tile(REFERENCE, (50, 1))
    turned = many.copy()
    turned[7] += np.float32(0.5) * np.sign(np.random.default_rng(2).normal(size=16)).astype(np.float32)
    found = agreement(turned, many, "bf16")
    assert found.mean_cosine > 0.9999
    assert found.distance < 1
    assert not found.holds


@pytest.mark.parametrize(("precision", "factor"), [("fp32", 1.01), ("bf16", 1.6)])
def test_answers_of_the_right_direction_and_the_wrong_size_are_wrong(precision, factor):
    found = agreement(REFERENCE * np.float32(factor), REFERENCE, precision)
    assert found.least_cosine > 0.999999
    assert not found.holds
