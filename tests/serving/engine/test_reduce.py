"""Reductions on a row's own tokens."""

import numpy as np
import pytest

from adapters.errors import InvalidRow
from serving.engine.reduce import reduce
from serving.request import Reduction

OUTPUT = np.arange(12, dtype=np.float32).reshape(6, 2)
OWN = np.array([0, 3, 4, 5])  # two tokens were inserted after the first


def test_pooled_logits_are_as_they_are():
    logits = np.array([1.0, 2.0], np.float32)
    reduced = reduce(logits, Reduction("logits"), OWN)
    assert reduced.tolist() == [1.0, 2.0]
    assert reduced.base is None


def test_inserted_positions_are_left_out():
    assert reduce(OUTPUT, Reduction("hidden_state"), OWN)[:, 0].tolist() == [0.0, 6.0, 8.0, 10.0]


def test_positions_count_the_rows_own_tokens():
    assert reduce(OUTPUT, Reduction("logits", (1, 3)), OWN)[:, 0].tolist() == [6.0, 10.0]
    assert reduce(OUTPUT, Reduction("logits", ()), OWN).shape == (0, 2)


def test_the_result_does_not_hold_the_batch():
    assert reduce(OUTPUT, Reduction("hidden_state"), OWN).base is None


@pytest.mark.parametrize("positions", [(4,), (-1,)])
def test_positions_outside_of_the_row_are_refused(positions):
    with pytest.raises(InvalidRow, match="within the row's 4 tokens"):
        reduce(OUTPUT, Reduction("logits", positions), OWN)


def test_positions_of_a_pooled_head_are_refused():
    with pytest.raises(InvalidRow, match="the row as a whole"):
        reduce(np.zeros(2, np.float32), Reduction("logits", (0,)), OWN)
