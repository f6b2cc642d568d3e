import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.tasks.task import scores

logits = st.lists(st.floats(-80, 80, width=32), min_size=1, max_size=6).map(lambda x: np.array(x, np.float32))


@given(logits)
def test_softmax_sums_to_one_and_keeps_the_order(values):
    found = scores(values, "softmax")
    assert found.sum() == pytest.approx(1.0)
    assert found[values.argmax()] == found.max()


@given(logits)
def test_sigmoid_is_the_logistic_function(values):
    assert scores(values, "sigmoid") == pytest.approx(1 / (1 + np.exp(-values.astype(np.float64))))


def test_none_gives_the_logits_themselves():
    values = np.array([[0.1, -3.0]], np.float32)
    assert np.array_equal(scores(values, "none"), values)


def test_extreme_logits_do_not_overflow():
    values = np.array([1e30, -1e30], np.float32)
    assert scores(values, "softmax").tolist() == [1.0, 0.0]
    assert scores(values, "sigmoid").tolist() == [1.0, 0.0]


def test_softmax_runs_over_the_last_axis():
    assert scores(np.zeros((3, 4), np.float32), "softmax").tolist() == [[0.25] * 4] * 3
