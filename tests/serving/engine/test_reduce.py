"""Reductions on a row's own tokens."""

import numpy as np
import pytest

from adapters.errors import InvalidRow
from serving.engine.reduce import reduce
from serving.request import Reduction

OUTPUT = np.arange(12, dtype=np.float32).reshape(6, 2)
OWN = np.array([0, 3, 4, 5])  # two tokens were inserted after the first
VOCABULARY = np.random.default_rng(0).normal(size=(2, 50)).astype(np.float32)


def test_pooled_logits_are_as_they_are():
    logits = np.array([1.0, 2.0], np.float32)
    reduced = reduce(logits, Reduction("logits"), OWN)
    assert reduced.output.tolist() == [1.0, 2.0]
    assert reduced.output.base is None
    assert reduced.indices is None


def test_inserted_positions_are_left_out():
    for wanted in ("hidden_state", "logits"):
        assert reduce(OUTPUT, Reduction(wanted), OWN).output[:, 0].tolist() == [0.0, 6.0, 8.0, 10.0]


def test_positions_count_the_rows_own_tokens():
    assert reduce(OUTPUT, Reduction("hidden_state", (1, 3)), OWN).output[:, 0].tolist() == [6.0, 10.0]


def test_logits_of_some_positions_come_as_the_head_gave_them():
    few = OUTPUT[:2]
    reduced = reduce(few, Reduction("logits", (1, 3)), OWN).output
    assert reduced.tolist() == few.tolist()
    assert not np.shares_memory(reduced, few)


@pytest.mark.parametrize("wanted", [Reduction("hidden_state"), Reduction("logits"), Reduction("hidden_state", (1,))])
def test_the_result_does_not_hold_the_batch(wanted):
    assert not np.shares_memory(reduce(OUTPUT, wanted, OWN).output, OUTPUT)


@pytest.mark.parametrize("positions", [(4,), (-1,)])
def test_positions_outside_of_the_row_are_refused(positions):
    with pytest.raises(InvalidRow, match="within the row's 4 tokens"):
        reduce(OUTPUT, Reduction("hidden_state", positions), OWN)


def test_positions_of_a_pooled_head_are_refused():
    with pytest.raises(InvalidRow, match="the row as a whole"):
        reduce(np.zeros(2, np.float32), Reduction("logits", (0,)), OWN)


def test_the_largest_logits_of_every_position_and_the_sum_of_all():
    reduced = reduce(VOCABULARY, Reduction("logits", (0, 3), top=3), OWN)
    assert reduced.output.shape == (2, 4)
    assert reduced.output.dtype == np.float32
    assert reduced.indices is not None
    assert reduced.indices.dtype == np.int32
    best = np.argsort(-VOCABULARY, axis=1)[:, :3]
    assert reduced.indices.tolist() == best.tolist()
    probabilities = np.exp(VOCABULARY) / np.exp(VOCABULARY).sum(axis=1, keepdims=True)
    ours = np.exp(reduced.output[:, :3] - reduced.output[:, 3:])
    assert ours == pytest.approx(np.take_along_axis(probabilities, best, axis=1), rel=1e-5)
    assert np.array_equal(reduced.output[:, :3], np.take_along_axis(VOCABULARY, best, axis=1))


def test_equal_logits_go_by_id_and_more_than_all_is_all():
    flat = np.zeros((1, 6), np.float32)
    flat[0, 4] = 1.0
    reduced = reduce(flat, Reduction("logits", (0,), top=3), OWN)
    assert reduced.indices is not None
    assert reduced.indices.tolist() == [[4, 0, 1]]
    assert reduce(flat, Reduction("logits", (0,), top=99), OWN).output.shape == (1, 7)


def test_chosen_ids_keep_their_order():
    reduced = reduce(VOCABULARY, Reduction("logits", (0, 3), chosen=(7, 2)), OWN)
    assert reduced.indices is not None
    assert reduced.indices.tolist() == [[7, 2]] * 2
    assert np.array_equal(reduced.output[:, :2], VOCABULARY[:, [7, 2]])
    with pytest.raises(InvalidRow, match="a vocabulary of 50"):
        reduce(VOCABULARY, Reduction("logits", (0, 3), chosen=(50,)), OWN)


def test_extreme_logits_overflow_nothing_and_damaged_ones_stay_visible():
    huge = np.array([[1e30, -1e30, 0.0]], np.float32)
    assert reduce(huge, Reduction("logits", (0,), top=1), OWN).output.tolist() == [[np.float32(1e30)] * 2]
    damaged = np.array([[1.0, np.nan, 0.0]], np.float32)
    assert not np.isfinite(reduce(damaged, Reduction("logits", (0,), top=2), OWN).output).all()


@pytest.mark.parametrize(
    ("pooling", "expected"),
    [("mean", [6.0, 7.0]), ("cls", [0.0, 1.0]), ("last", [10.0, 11.0]), ("max", [10.0, 11.0])],
)
def test_pooling_sees_the_rows_own_tokens_alone(pooling, expected):
    vector = reduce(OUTPUT, Reduction("hidden_state", pooling=pooling), OWN).output
    assert vector.tolist() == expected
    assert vector.dtype == np.float32
    assert not np.shares_memory(vector, OUTPUT)
    unit = reduce(OUTPUT, Reduction("hidden_state", pooling=pooling, normalize=True), OWN).output
    assert np.linalg.norm(unit) == pytest.approx(1.0)
    assert unit == pytest.approx(np.array(expected) / np.linalg.norm(expected))


def test_a_vector_of_zeros_stays_one():
    zeros = np.zeros((6, 2), np.float32)
    assert reduce(zeros, Reduction("hidden_state", pooling="mean", normalize=True), OWN).output.tolist() == [0.0, 0.0]


def test_arcs_and_the_relations_of_the_best_one():
    scores = np.random.default_rng(1).normal(size=(2, 3, 4)).astype(np.float32)
    reduced = reduce(scores, Reduction("logits", best_head=True), OWN).output
    assert reduced.shape == (2, 3 + 3)
    for word in range(2):
        best = scores[word, :, 0].argmax()
        assert reduced[word].tolist() == [*scores[word, :, 0].tolist(), *scores[word, best, 1:].tolist()]
    assert reduce(scores, Reduction("logits"), OWN).output.shape == (2, 3, 4)
