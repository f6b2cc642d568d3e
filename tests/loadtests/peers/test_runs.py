import numpy as np

from loadtests.peers.contenders import PADDED, SORTED
from loadtests.peers.padding import by_length, one_by_one
from loadtests.peers.runs import Run, bare_runs, over

ROWS = [[5, 6, 7, 8], [9], [10, 11], [12, 13, 14]]


def states(batch):
    return batch.ids[..., None].astype(np.float32)


def test_a_run_over_batches_gives_every_row_in_the_order_given():
    batches = by_length(ROWS, 2)
    run = over(batches, lambda number: states(batches[number]), np.asarray, "sorted")
    assert [row[:, 0].tolist() for row in run.rows(run.go())] == ROWS
    assert run.note == "sorted"


def test_answers_outlive_a_buffer_that_is_used_again():
    buffer = np.zeros((1, 4, 1), np.float32)
    batches = one_by_one([ROWS[0]])
    run = over(batches, lambda _: buffer, np.asarray)
    (row,) = run.rows(run.go())
    buffer += 1
    assert not row.any()


def test_the_backbone_runs_as_rows_came_and_sorted_in_the_quickest_size():
    time, asked = [0.0], []

    def run_of(batches, note):
        def go():
            asked.append(note)
            time[0] += 1.0 if note == "batches of 4" else 2.0
            return [states(batch) for batch in batches]

        return Run(go, lambda found: found, note)

    found = bare_runs([[5]] * 9, run_of, lambda: time[0])
    assert found.keys() == {(PADDED, None), (SORTED, None)}
    assert found[PADDED, None].note == ""
    assert found[SORTED, None].note == "batches of 4"
    assert asked == ["batches of 4", "batches of 8"] * 5  # in turn: what else the machine does hits all alike


def test_fewer_rows_than_the_smallest_batch_are_one_batch():
    found = bare_runs(ROWS[:3], lambda batches, note: Run(lambda: batches, lambda found: found, note), lambda: 0.0)
    assert found[SORTED, None].note == "batches of 3"


def test_a_first_pass_does_not_decide_what_is_quickest():
    time, passes = [0.0], {}

    def run_of(batches, note):
        def go():
            first = passes.setdefault(note, 0) == 0
            passes[note] += 1
            time[0] += 0.0 if first and note == "batches of 8" else {"batches of 4": 1.0}.get(note, 2.0)

        return Run(go, list, note)

    assert bare_runs([[5]] * 9, run_of, lambda: time[0])[SORTED, None].note == "batches of 4"
