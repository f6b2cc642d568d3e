import numpy as np

from loadtests.peers.padding import by_length, in_order_of_arrival, one_by_one

ROWS = [[5, 6, 7, 8], [9], [10, 11]]


def test_rows_in_order_of_arrival_are_padded_to_the_longest_of_all():
    batch = in_order_of_arrival(ROWS)
    assert batch.ids.tolist() == [[5, 6, 7, 8], [9, 0, 0, 0], [10, 11, 0, 0]]
    assert batch.mask.tolist() == [[1, 1, 1, 1], [1, 0, 0, 0], [1, 1, 0, 0]]
    assert batch.places == (0, 1, 2)


def test_sorted_rows_are_padded_only_to_the_longest_of_their_batch():
    first, second = by_length(ROWS, 2)
    assert first.places == (1, 2)
    assert first.ids.tolist() == [[9, 0], [10, 11]]
    assert second.places == (0,)
    assert second.ids.tolist() == [[5, 6, 7, 8]]


def test_one_by_one_pads_nothing():
    batches = one_by_one(ROWS)
    assert [batch.ids.tolist() for batch in batches] == [[row] for row in ROWS]
    assert all(batch.mask.all() for batch in batches)


def test_each_rows_states_are_found_again_without_padding():
    (_, second) = by_length(ROWS, 2)
    (first, _) = by_length(ROWS, 2)
    states = np.arange(8, dtype=np.float32).reshape(2, 2, 2)
    assert [(place, own.tolist()) for place, own in first.taken(states)] == [
        (1, [[0.0, 1.0]]),
        (2, [[4.0, 5.0], [6.0, 7.0]]),
    ]
    assert [place for place, _ in second.taken(np.zeros((1, 4, 2), np.float32))] == [0]
