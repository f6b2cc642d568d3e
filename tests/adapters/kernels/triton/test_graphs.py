import numpy as np
import pytest
import torch

from adapters.kernels.triton import graphs
from adapters.kernels.triton.graphs import (
    TOKENS,
    Captured,
    NotCaptured,
    Shape,
    padded_bounds,
    padded_offsets,
    padded_starts,
    shape_of,
)
from adapters.kernels.triton.segmented import linear
from tests.adapters.kernels.triton.cases import DEVICE, Shelf, assert_close, rows_of
from tests.adapters.kernels.triton.recording import Recorder

CPU = torch.device("cpu")


def arrays(*values):
    return {"x": np.array(values, np.float32)}


def test_a_batch_goes_into_the_smallest_bucket_that_holds_it():
    assert shape_of(1, 1) == Shape(256, 16)
    assert shape_of(256, 16) == Shape(256, 32)
    assert shape_of(257, 33) == Shape(320, 64)
    assert shape_of(TOKENS[-1], 300) == Shape(TOKENS[-1], 512)
    assert shape_of(TOKENS[-1] + 1, 1) is None


def test_buckets_ascend_and_waste_a_fifth_of_themselves_at_the_most():
    assert list(TOKENS) == sorted(set(TOKENS))
    assert all(
        5 * (shape_of(tokens, 1).tokens - tokens) < shape_of(tokens, 1).tokens for tokens in range(256, 16384, 57)
    )


@pytest.mark.parametrize("rows", [1, 7, 64, 65, 256])
def test_rows_of_padding_are_no_longer_than_the_batch_s_own_in_the_mean(rows):
    for tokens in (300, 2049, 8193):
        shape = shape_of(tokens, rows)
        starts = padded_starts([i * tokens // rows for i in range(rows + 1)], shape)
        assert len(starts) == shape.rows + 1
        assert starts[rows] == tokens
        assert starts[-1] == shape.tokens
        lengths = np.diff(starts)
        assert lengths.min() >= 0
        assert lengths[rows:].max() <= -(-tokens // rows)


def test_tables_are_filled_up_with_what_is_empty():
    shape = Shape(13, 4)
    assert padded_starts((0, 7, 9), shape).tolist() == [0, 7, 9, 11, 13]
    assert padded_starts((0, 13), shape).tolist() == [0, 13, 13, 13, 13]
    assert padded_bounds([(2, 5)], 3).tolist() == [[2, 5], [0, 0], [0, 0]]
    assert padded_bounds([], 3).tolist() == [[0, 0]] * 3
    assert padded_offsets([64, 128], 3).tolist() == [64, 128, 0]


def test_more_than_a_bucket_holds_is_an_error():
    for build, values in ((padded_bounds, [(0, 1), (1, 2)]), (padded_offsets, [0, 64])):
        with pytest.raises(ValueError, match="broadcast"):
            build(values, 1)
    with pytest.raises(ValueError, match="2 rows leave none of 2 for the padding"):
        padded_starts((0, 1, 2), Shape(256, 2))


def test_a_pass_is_captured_once_and_replayed_with_other_values():
    recorder = Recorder()
    captured = Captured(recorder, CPU)
    results = [
        captured.run("a", arrays(*values), {}, 0, lambda t: t["x"] * 2).tolist() for values in ((1, 2), (3, 4), (5, 6))
    ]
    assert results == [[2, 4], [6, 8], [10, 12]]
    assert (recorder.captures, recorder.replays) == (1, {0: 3})


def test_the_result_and_the_inputs_are_the_same_tensors_every_time():
    captured, seen = Captured(Recorder(), CPU), []

    def compute(tensors):
        seen.append(tensors["x"].data_ptr())
        return tensors["x"] + 1

    results = {captured.run("a", arrays(i), {}, 0, compute).data_ptr() for i in range(3)}
    assert len(results) == len(set(seen)) == 1


def test_what_the_caller_does_with_its_arrays_later_reaches_no_pass():
    captured, given = Captured(Recorder(), CPU), arrays(1, 2)
    captured.run("a", given, {}, 0, lambda t: t["x"] + 0)
    given["x"][:] = 9
    (held,) = captured._held.values()
    assert held.inputs["x"].tolist() == [1, 2]


def test_keys_are_kept_apart_and_the_least_used_is_dropped():
    recorder = Recorder()
    captured = Captured(recorder, CPU, limit=2)
    for key in ("a", "b", "a", "c", "a", "b"):
        captured.run(key, arrays(1), {}, 0, lambda t: t["x"] + 0)
    assert recorder.captures == 4
    assert len(captured) == 2


def test_arrays_of_another_form_are_refused_before_anything_is_written():
    captured = Captured(Recorder(), CPU)
    captured.run("a", {"x": np.zeros(2, np.float32), "n": np.zeros(1, np.int32)}, {}, 0, lambda t: t["x"] + 0)
    with pytest.raises(ValueError, match=r"n was captured as torch\.int32 \[1\], not torch\.int32 \[2\]"):
        captured.run("a", {"x": np.ones(2, np.float32), "n": np.zeros(2, np.int32)}, {}, 0, lambda t: t["x"] + 0)
    with pytest.raises(ValueError, match=r"x was captured as torch\.float32"):
        captured.run("a", {"x": np.ones(2), "n": np.zeros(1, np.int32)}, {}, 0, lambda t: t["x"] + 0)
    with pytest.raises(ValueError, match="captured with x, n, not x"):
        captured.run("a", arrays(1, 1), {}, 0, lambda t: t["x"] + 0)
    (held,) = captured._held.values()
    assert held.inputs["x"].tolist() == [0, 0]


def test_states_are_computed_as_many_as_the_bucket_has_with_nothing_of_earlier_ones_behind():
    captured = Captured(Recorder(), CPU)
    for values in ([1.0, 2.0, 3.0], [4.0], [5.0, 6.0]):
        states = {"h": torch.tensor(values).view(1, -1, 1)}
        found = captured.run("a", {}, states, 4, lambda t: t["h"] + 1)
        assert found.flatten().tolist() == [value + 1 for value in values] + [1] * (4 - len(values))
    with pytest.raises(ValueError, match="h was captured as"):
        captured.run("a", {}, {"h": torch.zeros(1, 5, 1)}, 4, lambda t: t["h"])


def test_the_first_run_finds_the_values_of_its_own_batch():
    seen = []
    states = {"h": torch.ones(1, 1, 1)}
    Captured(Recorder(), CPU).run("a", arrays(7), states, 2, lambda t: seen.append(t) or t["x"].clone())
    assert seen[0]["x"].tolist() == [7]
    assert seen[0]["h"].flatten().tolist() == [1, 0]


def test_a_pass_that_no_capture_takes_is_told_with_its_reason_and_not_kept():
    captured = Captured(Recorder(), CPU)
    with pytest.raises(NotCaptured, match="not permitted when stream is capturing") as told:
        captured.run("a", arrays(1), {}, 0, lambda t: t["x"] * t["x"].sum().item())
    assert isinstance(told.value.__cause__, RuntimeError)
    assert not len(captured)


def test_what_goes_wrong_in_a_replay_is_no_refusal():
    def broken(compute):
        output = compute()

        def replay():
            raise RuntimeError("an illegal memory access")

        return replay, output

    with pytest.raises(RuntimeError, match="illegal memory access") as told:
        Captured(broken, CPU).run("a", arrays(1), {}, 0, lambda t: t["x"] * 2)
    assert not isinstance(told.value, NotCaptured)


def test_one_captured_launch_serves_batches_of_any_segments():
    shelf = Shelf(torch.float32)
    weights, offsets = shelf.place(3, 8, 12)
    arena, shape = shelf.arena, Shape(64, 16)
    captured = Captured(Recorder(), DEVICE)

    def compute(tensors):
        y = torch.zeros(shape.tokens, 8, device=DEVICE)
        linear(tensors["x"], y, tensors["bounds"], arena, tensors["weight"])
        return y

    for bounds, own in (([(0, 20), (20, 64)], (2, 0)), ([(5, 9)], (1,)), ([], ())):
        x = rows_of(64, 12, torch.float32, seed=len(bounds), strided=False)
        tables = {
            "x": x.cpu().numpy(),
            "bounds": padded_bounds(bounds, 16),
            "weight": padded_offsets([int(offsets[i]) for i in own], 16),
        }
        found, due = captured.run(shape, tables, {}, 64, compute), torch.zeros(64, 8, dtype=torch.float64)
        for (start, end), i in zip(bounds, own, strict=True):
            due[start:end] = x[start:end].double().cpu() @ weights[i].double().T
        assert_close(found, due, torch.float32)


def test_a_pass_is_warmed_up_aside_and_captured_into_the_shared_pool(monkeypatch):
    told = []

    class Stream:
        def __init__(self, name="aside"):
            self.name = name

        def wait_stream(self, other):
            told.append(f"{self.name} waits for {other.name}")

    class Context:
        def __init__(self, *names):
            self.names = names

        def __enter__(self):
            told.append(f"into {self.names}")

        def __exit__(self, *_):
            told.append("out")

    class Graph:
        def replay(self):
            told.append("replay")

    monkeypatch.setattr(graphs.torch.cuda, "Stream", Stream)
    monkeypatch.setattr(graphs.torch.cuda, "current_stream", lambda: Stream("main"))
    monkeypatch.setattr(graphs.torch.cuda, "stream", lambda stream: Context(stream.name))
    monkeypatch.setattr(graphs.torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(
        graphs.torch.cuda, "graph", lambda graph, pool, capture_error_mode: Context(capture_error_mode, pool)
    )
    replay, output = graphs.capture("pool")(lambda: told.append("compute"))
    replay()
    assert output is None
    assert told == [
        "aside waits for main",
        "into ('aside',)",
        "compute",
        "out",
        "main waits for aside",
        "into ('thread_local', 'pool')",
        "compute",
        "out",
        "replay",
    ]
