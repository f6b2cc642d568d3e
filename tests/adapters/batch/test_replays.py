"""Replayed passes against the plain pass of torch, with a stand-in for CUDA's capture and the kernels of a GPU."""

import random
from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import pytest
import torch

from adapters.backbone import Backbone
from adapters.batch import fixed, replays
from adapters.batch.rows import Fork, Row
from adapters.kernels.triton import graphs
from adapters.kernels.triton.cuda import CudaKernels
from adapters.kernels.triton.graphs import Captured
from tests.adapters import builders
from tests.adapters.builders import HEADS, PARTS
from tests.adapters.kernels.triton.cases import DEVICE
from tests.adapters.kernels.triton.recording import Recorder

CLOSE = 1e-5  # of the magnitude
LORA, BOTTLENECK, DOUBLE = "lora_all", "seq_bn", "double_seq_bn"


@pytest.fixture(autouse=True)
def small_buckets(monkeypatch):
    """The interpreter computes padding as well."""
    monkeypatch.setattr(graphs, "TOKENS", (24, 48))
    with np.errstate(all="ignore"):
        yield


@pytest.fixture
def captured(monkeypatch):
    """A backbone whose passes are captured at the first sight, and the stand-in that captures them."""
    monkeypatch.setattr(replays, "SIGHTS", 1)
    return captured_of("bert")


def captured_of(family):
    backbone, recorder = Backbone.load(builders.folder(family), compiled=False), Recorder()
    backbone.kernels = CudaKernels()
    backbone.capture(Captured(recorder, torch.device("cpu")))
    return backbone, recorder


def tenants(parts, family="bert", count=4):
    """Adapters of other weights, kind by kind, in one arena; each with a head."""
    head = HEADS["pooler"] if family == "bert" else HEADS["two_layers"]
    made = [
        builders.adapter(family, [PARTS[part]], head, 10 * i + j) for i, part in enumerate(parts) for j in range(count)
    ]
    placed = builders.in_one_arena(made, slack=1)
    return {part: placed[i * count : (i + 1) * count] for i, part in enumerate(parts)}


def rows_of(*named, length=5, seed=0):
    """A row for each adapter (None for the bare backbone)."""
    return [
        Row(() if held is None else (held,), held, None, builders.ids(seed + i, length + i % 3))
        for i, held in enumerate(named)
    ]


def wants(rows):
    return ["hidden_state" if row.head is None else "logits" for row in rows]


def check(backbone, rows, family="bert"):
    found = backbone.run(rows, wants(rows))
    due = builders.backbone(family, compiled=False).run(rows, wants(rows))
    for own, plain in zip(found, due, strict=True):
        assert own.shape == plain.shape
        assert float((own - plain).abs().max()) <= CLOSE * max(1.0, float(plain.abs().max()))


@pytest.mark.parametrize("part", [LORA, BOTTLENECK, DOUBLE, "par_bn"])
def test_one_captured_pass_answers_for_all_tenants_each_with_its_own_weights(captured, part):
    (backbone, recorder), (a, b, c, d) = captured, tenants([part])[part]
    for turn, held in enumerate(((a, b), (c, d, a), (b,), (d, c, b, a))):
        check(backbone, rows_of(*held, length=3, seed=turn))
    assert (recorder.captures, backbone.replays.replayed) == (1, 4)
    assert not backbone.replays.refused


def test_a_place_of_the_first_batch_in_the_captured_pass_would_be_seen(captured, monkeypatch):
    (backbone, _), (a, b, *_) = captured, tenants([BOTTLENECK])[BOTTLENECK]
    table = fixed.tables
    first = []

    def baked(plan, outline):
        found = table(plan, outline)
        first.append(found["offsets"])
        return {**found, "offsets": first[0]}

    monkeypatch.setattr(replays, "tables", baked)
    check(backbone, rows_of(a, b))
    with pytest.raises(AssertionError):
        check(backbone, rows_of(b, a))


def test_rows_with_and_without_adapters_are_other_passes_than_rows_that_all_have_one(captured):
    (backbone, recorder), (a, b, *_) = captured, tenants([BOTTLENECK])[BOTTLENECK]
    check(backbone, rows_of(a, b))
    check(backbone, rows_of(a, None, b))
    check(backbone, rows_of(None, b, a))
    assert recorder.captures == 2
    check(backbone, rows_of(None, None))
    assert recorder.captures == 3


def test_kinds_may_come_in_any_order(captured):
    (backbone, recorder), held = captured, tenants([BOTTLENECK, LORA, "double_seq_bn"], count=2)
    (a, b), (c, d), (e, f) = held.values()
    check(backbone, rows_of(a, c, e, length=3))
    check(backbone, rows_of(f, d, b, length=3, seed=9))
    assert recorder.captures == 1


def test_stacked_bottlenecks_are_captured(captured):
    (backbone, recorder), (a, b, *_) = captured, tenants([DOUBLE])[DOUBLE]
    for bottom, top in ((a, b), (b, a)):
        check(backbone, [Row((bottom, top), None, None, builders.ids(3, 6)), *rows_of(a, None)])
    assert recorder.captures == 1


def test_batches_at_random_equal_their_rows_alone(captured):
    (backbone, recorder), held = captured, tenants([BOTTLENECK, LORA])
    rng, everyone = random.Random(3), [one for own in held.values() for one in own]
    for turn in range(8):
        drawn = [rng.choice([None, *everyone]) for _ in range(rng.randint(1, 6))]
        check(backbone, rows_of(*drawn, length=rng.randint(1, 6), seed=turn))
    assert backbone.replays.replayed == 8
    assert recorder.captures < 8
    assert not backbone.replays.refused


def test_padding_reaches_nobody_even_where_it_is_no_number(captured, monkeypatch):
    (backbone, _), (a, b, *_) = captured, tenants([DOUBLE])[DOUBLE]
    write = graphs._write

    def poisoned(due, arrays, states):
        write(due, arrays, states)
        for name, state in states.items():
            if state.is_floating_point():
                due[name][:, state.shape[1] :] = torch.nan

    monkeypatch.setattr(graphs, "_write", poisoned)
    check(backbone, rows_of(a, b))
    check(backbone, rows_of(b, a, a))
    check(backbone, rows_of(None, a))


@pytest.mark.parametrize(
    "part",
    [
        "ia3",
        "ia3_input",
        "prefix_flat",
        "gated_bn",
        "ln_bn",
        "dora",
        "loreft",
        "norms",
        "invertible",
        "biases",
        "prompt",
    ],
)
def test_what_reads_its_rows_on_the_host_runs_as_it_is_and_says_why(captured, part, caplog):
    (backbone, recorder), (a, b, *_) = captured, tenants([part])[part]
    for held in ((a, b), (b, a)):
        check(backbone, rows_of(*held))
    for shape in (1, 2):  # of the same kind, in another bucket
        backbone.replays._refuse(shape, *backbone.replays.refused.values())
        assert backbone.replays.refused.pop(shape)
    (told,) = caplog.messages
    assert told.endswith(next(iter(backbone.replays.refused.values())))
    assert (recorder.captures, backbone.replays.replayed) == (0, 0)
    (reason,) = backbone.replays.refused.values()
    assert "knows its rows on the device alone" in reason


def test_words_are_looked_up_before_the_captured_pass(captured):
    (backbone, _), (a, b, c, d) = captured, tenants(["lora_words"])["lora_words"]
    check(backbone, rows_of(a, b))
    check(backbone, rows_of(d, c))
    assert not backbone.replays.refused
    assert backbone.replays.replayed == 2


def test_a_fork_and_a_batch_larger_than_every_bucket_run_as_they_are(captured):
    (backbone, _), (a, b, *_) = captured, tenants([DOUBLE])[DOUBLE]
    check(backbone, rows_of(*[None] * 9, length=6))
    fork = Fork("average", ((a,), (b,)), (False, False), weights=(0.5, 0.5))
    check(backbone, [Row((fork,), None, None, builders.ids(1, 5))])
    assert backbone.replays.replayed == 0
    assert not backbone.replays.refused


def test_a_key_is_captured_at_its_third_sight():
    (backbone, recorder), (a, b, *_) = captured_of("bert"), tenants([LORA])[LORA]
    for turn, held in enumerate(((a,), (b,), (a, b), (b, a)), 1):
        check(backbone, rows_of(*held, length=4))
        assert recorder.captures == (turn >= 3)
    assert backbone.replays.replayed == 2


def test_with_gradients_nothing_is_captured_and_without_them_in_either_mode(captured):
    (backbone, recorder), (a, *_) = captured, tenants([LORA])[LORA]
    rows = rows_of(a)
    for mode, count in ((nullcontext, 0), (torch.no_grad, 1), (torch.inference_mode, 2)):
        with mode():
            states = backbone.forward(backbone.plan(rows, [True])).hidden
        assert backbone.replays.replayed == count
    with torch.no_grad():
        states = backbone.forward(backbone.plan(rows, [True])).hidden
    assert not states.is_inference()
    assert recorder.captures == 1


def test_states_outlive_the_next_replay(captured):
    (backbone, _), (a, b, *_) = captured, tenants([LORA])[LORA]
    with torch.no_grad():
        first = backbone.forward(backbone.plan(rows_of(a), [True])).hidden
        kept = first.clone()
        backbone.forward(backbone.plan(rows_of(b, a), [True, True]))
    assert torch.equal(first, kept)


def test_an_arena_that_moved_is_another_pass(captured):
    (backbone, recorder), part = captured, BOTTLENECK
    for captures in (1, 2):
        (a, b, *_) = tenants([part], count=2 + captures)[part]
        check(backbone, rows_of(a, b))
        assert recorder.captures == captures
        del a, b


def test_a_capture_that_the_device_refuses_leaves_the_pass_as_it_is(monkeypatch):
    monkeypatch.setattr(replays, "SIGHTS", 1)
    (a, b, *_), attempts = tenants([LORA])[LORA], []

    def refusing(compute):
        attempts.append(1)
        raise RuntimeError("CUDA error: operation not permitted when stream is capturing")

    backbone = captured_of("bert")[0]
    backbone.capture(Captured(refusing, torch.device("cpu")))
    check(backbone, rows_of(a, b))
    check(backbone, rows_of(b, a))
    assert len(attempts) == 1
    (reason,) = backbone.replays.refused.values()
    assert "not permitted" in reason


def test_counts_of_keys_are_bounded(captured, monkeypatch):
    monkeypatch.setattr(replays, "KNOWN", 2)
    backbone = captured[0]
    for key in "abcd":
        backbone.replays._due(key)
        backbone.replays._refuse(key, "no")
    assert list(backbone.replays._seen) == list(backbone.replays.refused) == ["c", "d"]


@pytest.mark.parametrize("family", ["roberta", "distilbert", "albert", "modernbert"])
def test_other_families_are_replayed_too(family, monkeypatch):
    monkeypatch.setattr(replays, "SIGHTS", 1)
    (backbone, recorder), (a, b, *_) = captured_of(family), tenants(["lora_qv"], family)["lora_qv"]
    check(backbone, rows_of(a, b), family)
    check(backbone, rows_of(b, None, a), family)
    assert not backbone.replays.refused
    assert (recorder.captures, backbone.replays.replayed) == (1, 2)


def test_disentangled_attention_runs_as_it_is(monkeypatch):
    monkeypatch.setattr(replays, "SIGHTS", 1)
    (backbone, recorder), (a, *_) = captured_of("deberta-v2"), tenants(["lora_qv"], "deberta-v2")["lora_qv"]
    check(backbone, rows_of(a, None), "deberta-v2")
    assert recorder.captures == 0


@pytest.mark.gpu
def test_graphs_of_a_gpu_answer_as_the_plain_pass_does(monkeypatch):
    assert DEVICE.type == "cuda", "run with TRITON_INTERPRET=0 on a machine with a GPU"
    monkeypatch.setattr(replays, "SIGHTS", 1)
    backbone = Backbone.load(builders.folder("bert"), "cuda", graphs=True)
    rng, plain = random.Random(3), builders.backbone("bert", compiled=False)
    held = tenants([BOTTLENECK, LORA, DOUBLE])
    arena = next(iter(held.values()))[0].arena
    there = arena.to("cuda")
    everyone = [one for own in held.values() for one in own]
    for turn in range(60):
        drawn = [rng.choice([None, *everyone]) for _ in range(rng.randint(1, 6))]
        rows = rows_of(*drawn, length=rng.randint(1, 6), seed=turn)
        moved = [
            replace(
                row,
                members=tuple(replace(m, arena=there) for m in row.members),
                head=row.head and replace(row.head, arena=there),
            )
            for row in rows
        ]
        for own, due in zip(backbone.run(moved, wants(rows)), plain.run(rows, wants(rows)), strict=True):
            assert float((own - due).abs().max()) <= 1e-4 * max(1.0, float(due.abs().max()))
    assert not backbone.replays.refused
    assert backbone.replays.replayed == 60
