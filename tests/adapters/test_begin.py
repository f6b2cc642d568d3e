"""No pass waits for a device between `begin` and `wait`: watched on torch's device without values.

It has shapes and no numbers, so that whatever reads one back raises; and what is brought to it is seen here.
"""

import random
import traceback
from copy import deepcopy

import pytest
import torch
from torch.overrides import TorchFunctionMode

from adapters.backbone import Backbone
from adapters.batch import answers
from adapters.batch.rows import Row, image_ids
from adapters.errors import InvalidRow
from adapters.kernels.upload import upload
from adapters.loading import load_model
from tests.adapters import builders
from tests.adapters.builders import FAMILIES, SEQ2SEQ
from tests.adapters.test_mixing import Draw

NOWHERE = torch.device("meta")
ROWS, BATCH = 120, 8


class Watch(TorchFunctionMode):
    """Calls that bring values of the host to the device: those that wait for its stream, and how many there were."""

    def __init__(self):
        super().__init__()
        self.brought, self.waiting = 0, []

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        made = func(*args, **kwargs)
        if any(one.device == NOWHERE for one in tensors(made)):
            hosts = any(one.device.type == "cpu" and one.numel() for one in tensors([args, kwargs]))
            if hosts or func in (torch.tensor, torch.as_tensor):
                self.brought += 1
                if not kwargs.get("non_blocking"):
                    self.waiting.append("".join(traceback.format_stack(limit=4)[:-1]))
        return made


def tensors(held):
    """All tensors in what a call was given, or answered."""
    if isinstance(held, torch.Tensor):
        yield held
    elif isinstance(held, dict):
        yield from tensors(list(held.values()))
    elif isinstance(held, list | tuple):
        for one in held:
            yield from tensors(one)


def nowhere(family, monkeypatch):
    """A backbone of a family on the device without values; its words stay on the host, as ever."""
    profile = builders.profile(family)
    model = load_model(builders.folder(family), profile, "cpu", torch.float32)
    words = None if profile.geometry.image else model.get_input_embeddings().weight.detach().clone()
    with monkeypatch.context() as patch:
        patch.setattr(torch.Tensor, "cpu", lambda tensor: words)
        return Backbone(model.to(NOWHERE), profile, profile.geometry.architecture, NOWHERE)


@pytest.fixture
def landed(monkeypatch):
    """Shapes of the shares that left the device."""
    seen = []

    def crossing(flat):
        seen.append(tuple(flat.shape))
        return torch.zeros(flat.shape), None

    monkeypatch.setattr(answers, "_crossing", crossing)
    monkeypatch.setattr("adapters.backbone.mark", lambda device: "began" if device == NOWHERE else None)
    return seen


@pytest.mark.parametrize("family", (*FAMILIES, *SEQ2SEQ))
def test_no_pass_of_any_rows_waits_for_the_device(family, monkeypatch, landed):
    draw, backbone = Draw(family), nowhere(family, monkeypatch)
    there, rows = draw.arena.to(NOWHERE), []
    while len(rows) < ROWS:
        row, want = draw.row(len(rows) % 20 / 20)
        try:
            shape = draw.backbone.run([row], [want])[0].shape
        except InvalidRow:
            continue
        kept = {id(one.adapter): one.adapter for one in (*draw.residents, *draw.fusions)} | {id(draw.arena): there}
        kept[id(draw.embedding)] = draw.embedding
        rows.append((deepcopy(row, kept), want, shape))
    for start in range(0, ROWS, BATCH):
        held, wants, shapes = zip(*rows[start : start + BATCH], strict=True)
        with Watch() as watch:
            begun = backbone.begin(held, wants)
        assert watch.brought > 0
        assert watch.waiting == []
        assert [share.shape for share in begun.shares] == list(shapes)
    assert len(landed) == ROWS // BATCH  # all shares of a pass cross as one


def test_images_wait_for_nobody(monkeypatch, landed):
    backbone, geometry = nowhere("vit", monkeypatch), builders.profile("vit").geometry
    pixels = torch.zeros(geometry.image).numpy()
    row = Row((), None, None, image_ids(geometry), pixels=pixels)
    with Watch() as watch:
        backbone.begin([row, row], ["hidden_state"] * 2)
    assert watch.brought > 0
    assert watch.waiting == []
    assert len(landed) == 1


@pytest.mark.parametrize(
    "waits",
    [
        lambda: torch.arange(3).to(NOWHERE),
        lambda: torch.tensor([1, 2], device=NOWHERE),
        lambda: torch.zeros(4, device=NOWHERE)[torch.tensor([0, 2])],
        lambda: torch.zeros(3, device=NOWHERE).copy_(torch.ones(3)),
    ],
)
def test_the_watch_sees_who_waits(waits):
    with Watch() as watch:
        waits()
    assert len(watch.waiting) == 1
    with Watch() as watch:
        upload(torch.arange(3), NOWHERE)
    assert (watch.brought, watch.waiting) == (1, [])


@pytest.mark.parametrize("reads", [torch.Tensor.item, torch.Tensor.tolist, torch.nonzero, torch.Tensor.cpu, bool])
def test_reading_back_raises_there(reads):
    with pytest.raises((RuntimeError, NotImplementedError)):
        reads(torch.zeros(1, device=NOWHERE))


@pytest.mark.gpu
def test_a_pass_on_a_gpu_never_waits(monkeypatch):
    draw, rng = Draw("bert"), random.Random(1)
    backbone = Backbone.load(builders.folder("bert"), "cuda")
    there = draw.arena.to("cuda")
    kept = {id(one.adapter): one.adapter for one in (*draw.residents, *draw.fusions)} | {id(draw.arena): there}
    kept[id(draw.embedding)] = draw.embedding
    pool = draw.pool()
    backbone.run([deepcopy(item.row, dict(kept)) for item in pool], [item.want for item in pool])  # compiles kernels
    for _ in range(20):
        drawn = [rng.choice(pool) for _ in range(12)]
        rows = [deepcopy(item.row, dict(kept)) for item in drawn]
        torch.cuda.set_sync_debug_mode("error")
        try:
            begun = backbone.begin(rows, [item.want for item in drawn])
        finally:
            torch.cuda.set_sync_debug_mode("default")
        for item, own in zip(drawn, begun.wait(), strict=True):
            assert float((own - item.alone).abs().max()) <= 1e-4 * item.magnitude
