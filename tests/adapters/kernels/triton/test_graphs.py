import numpy as np
import pytest
import torch

from adapters.kernels.triton import graphs
from adapters.kernels.triton.graphs import (
    TOKENS,
    Captured,
    Shape,
    padded_bounds,
    padded_offsets,
    padded_starts,
    shape_of,
)
from adapters.kernels.triton.segmented import linear
from tests.adapters.kernels.triton.cases import DEVICE, Shelf, assert_close, rows_of

CPU = torch.device("cpu")


class Recorder:
    """Captures as CUDA does: the pass runs for its memory, and later replays read and write the same tensors."""

    def __init__(self):
        self.captures = self.replays = 0

    def __call__(self, compute):
        self.captures += 1
        output = compute()

        def replay():
            self.replays += 1
            output.copy_(compute())

        return replay, output


def arrays(*values):
    return {"x": np.array(values, np.float32)}


def test_a_batch_goes_into_the_smallest_bucket_that_holds_it():
    assert shape_of(1, 1, 0) == Shape(256, 16, 16)
    assert shape_of(256, 16, 17) == Shape(256, 16, 32)
    assert shape_of(257, 33, 64) == Shape(512, 64, 64)
    assert shape_of(TOKENS[-1], 300, 300) == Shape(TOKENS[-1], 512, 512)
    assert shape_of(TOKENS[-1] + 1, 1, 1) is None


def test_a_bucket_wastes_less_than_half_of_itself():
    assert all(shape_of(tokens, 1, 1).tokens < 2 * tokens for tokens in range(129, TOKENS[-1], 57))


def test_tables_are_filled_up_with_what_is_empty():
    shape = Shape(256, 4, 3)
    assert padded_starts((0, 7, 9), shape).tolist() == [0, 7, 9, 9, 9]
    assert padded_bounds([(2, 5)], shape).tolist() == [[2, 5], [0, 0], [0, 0]]
    assert padded_bounds([], shape).tolist() == [[0, 0]] * 3
    assert padded_offsets([64, 128], shape).tolist() == [64, 128, 0]


def test_more_than_a_bucket_holds_is_an_error():
    shape = Shape(256, 2, 1)
    for build, values in ((padded_starts, (0, 1, 2, 3)), (padded_bounds, [(0, 1), (1, 2)]), (padded_offsets, [0, 64])):
        with pytest.raises(ValueError, match="broadcast"):
            build(values, shape)


def test_a_pass_is_captured_once_and_replayed_with_other_values():
    recorder = Recorder()
    captured = Captured(recorder, CPU)
    results = [captured.run("a", arrays(*values), lambda t: t["x"] * 2).tolist() for values in ((1, 2), (3, 4), (5, 6))]
    assert results == [[2, 4], [6, 8], [10, 12]]
    assert (recorder.captures, recorder.replays) == (1, 3)


def test_the_result_and_the_inputs_are_the_same_tensors_every_time():
    captured, seen = Captured(Recorder(), CPU), []

    def compute(tensors):
        seen.append(tensors["x"].data_ptr())
        return tensors["x"] + 1

    results = {captured.run("a", arrays(i), compute).data_ptr() for i in range(3)}
    assert len(results) == len(set(seen)) == 1


def test_what_the_caller_does_with_its_arrays_later_reaches_no_pass():
    captured, given = Captured(Recorder(), CPU), arrays(1, 2)
    captured.run("a", given, lambda t: t["x"])
    given["x"][:] = 9
    (held,) = captured._held.values()
    assert held.inputs["x"].tolist() == [1, 2]


def test_keys_are_kept_apart_and_the_least_used_is_dropped():
    recorder = Recorder()
    captured = Captured(recorder, CPU, limit=2)
    for key in ("a", "b", "a", "c", "a", "b"):
        captured.run(key, arrays(1), lambda t: t["x"])
    assert recorder.captures == 4
    assert len(captured) == 2


def test_arrays_of_another_form_are_refused_before_anything_is_written():
    captured = Captured(Recorder(), CPU)
    captured.run("a", {"x": np.zeros(2, np.float32), "n": np.zeros(1, np.int32)}, lambda t: t["x"])
    with pytest.raises(ValueError, match=r"n was captured as torch\.int32 \[1\], not torch\.int32 \[2\]"):
        captured.run("a", {"x": np.ones(2, np.float32), "n": np.zeros(2, np.int32)}, lambda t: t["x"])
    with pytest.raises(ValueError, match=r"x was captured as torch\.float32"):
        captured.run("a", {"x": np.ones(2), "n": np.zeros(1, np.int32)}, lambda t: t["x"])
    with pytest.raises(ValueError, match="captured with x, n, not x"):
        captured.run("a", arrays(1, 1), lambda t: t["x"])
    (held,) = captured._held.values()
    assert held.inputs["x"].tolist() == [0, 0]


def test_one_captured_launch_serves_batches_of_any_segments():
    shelf = Shelf(torch.float32)
    weights, offsets = shelf.place(3, 8, 12)
    arena, shape = shelf.arena, Shape(64, 16, 16)
    captured = Captured(Recorder(), DEVICE)

    def compute(tensors):
        y = torch.zeros(shape.tokens, 8, device=DEVICE)
        linear(tensors["x"], y, tensors["bounds"], arena, tensors["weight"])
        return y

    for bounds, own in (([(0, 20), (20, 64)], (2, 0)), ([(5, 9)], (1,)), ([], ())):
        x = rows_of(64, 12, torch.float32, seed=len(bounds), strided=False)
        tables = {
            "x": x.cpu().numpy(),
            "bounds": padded_bounds(bounds, shape),
            "weight": padded_offsets([int(offsets[i]) for i in own], shape),
        }
        found, due = captured.run(shape, tables, compute), torch.zeros(64, 8, dtype=torch.float64)
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
    monkeypatch.setattr(graphs.torch.cuda, "graph", lambda graph, pool: Context("graph", pool))
    replay, output = graphs.capture("pool")(lambda: told.append("compute"))
    replay()
    assert output is None
    assert told == [
        "aside waits for main",
        "into ('aside',)",
        "compute",
        "out",
        "main waits for aside",
        "into ('graph', 'pool')",
        "compute",
        "out",
        "replay",
    ]
