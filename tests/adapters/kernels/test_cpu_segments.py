from dataclasses import dataclass, replace

import pytest
import torch
from torch.nn import functional

from adapters.kernels.cpu import ACTIVATIONS, Bottlenecks, Form, Norm
from adapters.methods.settings import activation
from tests.adapters.kernels.native import (
    BOTH,
    assert_close,
    in_threads,
    laid_out,
    random,
    rest_of,
    segments,
    taken,
)

CASES = pytest.mark.parametrize(
    ("rows", "count"), [(1, 1), (2, 3), (17, 1), (64, 2), (130, 1), (130, 7), (300, 64)], ids=str
)


@BOTH
@CASES
@pytest.mark.parametrize(("wide", "out"), [(1, 1), (3, 5), (32, 48), (33, 130), (384, 24), (24, 384)], ids=str)
@pytest.mark.parametrize("accumulate", [False, True])
def test_every_segment_is_mapped_by_its_own_matrix(kernels, dtype, rows, count, wide, out, accumulate):
    bounds = segments(count, rows)
    arena, places = laid_out(bounds, {"weight": (out, wide), "bias": (out,)}, dtype)
    x, y = random(rows, 2 * wide, dtype=dtype)[:, wide:], random(rows, 3 * out, seed=1, dtype=dtype)[:, out : 2 * out]
    for bias in (None, places["bias"]):
        expected, got = y.double(), y.clone().new_zeros(rows, 3 * out)[:, out : 2 * out].copy_(y)
        for i, (start, end) in enumerate(bounds.tolist()):
            mapped = x[start:end].double() @ taken(arena, places["weight"][i], (out, wide)).T
            mapped += 0 if bias is None else taken(arena, bias[i], (out,))
            expected[start:end] = mapped + expected[start:end] if accumulate else mapped
        kernels.linear(x, got, bounds, arena, places["weight"], bias, accumulate=accumulate)
        assert_close(got, expected)
        assert torch.equal(got[rest_of(bounds, rows)], y[rest_of(bounds, rows)])


@BOTH
def test_a_nan_stays_in_its_row_and_in_its_segment(kernels, dtype):
    bounds = torch.tensor([[0, 20], [20, 37]], dtype=torch.int32)
    arena, places = laid_out(bounds, {"weight": (16, 33)}, dtype)
    x = random(37, 33, dtype=dtype)
    clean, got = torch.zeros(37, 16, dtype=dtype), torch.zeros(37, 16, dtype=dtype)
    kernels.linear(x, clean, bounds, arena, places["weight"])
    x[5, 32] = float("nan")
    arena[places["weight"][1]] = float("nan")
    kernels.linear(x, got, bounds, arena, places["weight"])
    assert got[5].isnan().all() and got[20:, 0].isnan().all()
    got[5], got[20:, 0] = clean[5], clean[20:, 0]
    assert torch.equal(got, clean)


@BOTH
@CASES
@pytest.mark.parametrize(("wide", "rank", "out"), [(1, 1, 1), (33, 3, 40), (64, 8, 300), (384, 24, 384)], ids=str)
def test_every_segment_gains_its_own_low_rank_map(kernels, dtype, rows, count, wide, rank, out):
    bounds = segments(count, rows)
    shapes = {"down": (rank, wide), "up": (out, rank), "bias": (out,)}
    arena, places = laid_out(bounds, shapes, dtype)
    x, y = random(rows, 2 * wide, dtype=dtype)[:, wide:], random(rows, 3 * out, seed=1, dtype=dtype)[:, out : 2 * out]
    for bias in (None, places["bias"]):
        expected, got = y.double(), y.new_zeros(rows, 3 * out)[:, out : 2 * out].copy_(y)
        for i, (start, end) in enumerate(bounds.tolist()):
            down, up, own = (taken(arena, places[name][i], shape) for name, shape in shapes.items())
            expected[start:end] += x[start:end].double() @ down.T @ up.T + (0 if bias is None else own)
        kernels.low_rank(x, got, bounds, arena, places["down"], places["up"], rank, bias)
        assert_close(got, expected)
        assert torch.equal(got[rest_of(bounds, rows)], y[rest_of(bounds, rows)])


@dataclass(frozen=True, eq=False)
class Case:
    f: torch.Tensor
    r: torch.Tensor
    bounds: torch.Tensor
    arena: torch.Tensor
    adapters: Bottlenecks
    norm: Norm | None
    places: dict[str, torch.Tensor]
    shapes: dict[str, tuple[int, ...]]

    def into(self, y, kernels, form):
        kernels.bottleneck(self.f, self.r, y, self.bounds, self.arena, self.adapters, form, self.norm)
        return y


def bottlenecked(case, y, form):
    """What `CpuKernels.bottleneck` says, in float64."""

    norm = case.norm

    def normed(x):
        if norm is None:
            return x
        return functional.layer_norm(x, x.shape[1:], norm.weight.double(), norm.bias.double(), norm.eps)

    out = y.double()
    for i, (start, end) in enumerate(case.bounds.tolist()):
        down, down_bias, up, up_bias = (taken(case.arena, case.places[n][i], shape) for n, shape in case.shapes.items())
        f, r = case.f[start:end].double(), case.r[start:end].double()
        x = {"normed": normed(f + r), "f": f, "r": r}[form.reads]
        z = activation(form.activation)(functional.linear(x, down, down_bias))
        u = form.scaling * functional.linear(z, up, up_bias)
        u = u + {"none": 0, "f": f, "x": x, "sum": f + r}[form.adds]
        out[start:end] = normed(u + r) if form.closes else u
    return out


def case(rows, count, hidden, width, dtype, seed=0):
    """What a bottleneck gets, and what tells where it lies."""
    bounds = segments(count, rows, seed)
    shapes = {"down": (width, hidden), "down_bias": (width,), "up": (hidden, width), "up_bias": (hidden,)}
    arena, places = laid_out(bounds, shapes, dtype, seed)
    f, r = (random(rows, 2 * hidden, seed=seed + i, dtype=dtype)[:, hidden:] for i in (1, 2))
    norm = Norm(random(hidden, seed=3), random(hidden, seed=4), 1e-5)
    return Case(f, r, bounds, arena, Bottlenecks(width, *places.values()), norm, places, shapes)


PFEIFFER = Form(reads="normed", adds="f", closes=True, activation="relu")
HOULSBY = Form(reads="f", adds="f", closes=True, activation="swish", scaling=0.5)
PARALLEL = Form(reads="r", adds="f", closes=True, activation="relu", scaling=4.0)


@BOTH
@CASES
@pytest.mark.parametrize("form", [PFEIFFER, HOULSBY, PARALLEL], ids=["pfeiffer", "houlsby", "parallel"])
@pytest.mark.parametrize(("hidden", "width"), [(32, 3), (33, 5), (384, 24), (300, 130)], ids=str)
def test_every_segment_passes_its_own_bottleneck(kernels, dtype, rows, count, form, hidden, width):
    given = case(rows, count, hidden, width, dtype)
    y = random(rows, hidden, seed=9, dtype=dtype)
    expected, untouched = bottlenecked(given, y, form), y[rest_of(given.bounds, rows)].clone()
    given.into(y, kernels, form)
    assert_close(y, expected)
    assert torch.equal(y[rest_of(given.bounds, rows)], untouched)


@BOTH
@pytest.mark.parametrize("with_norm", [True, False])
@pytest.mark.parametrize("closes", [True, False])
@pytest.mark.parametrize("adds", ["none", "f", "x", "sum"])
@pytest.mark.parametrize("reads", ["normed", "f", "r"])
def test_every_form_is_what_it_says(kernels, dtype, reads, adds, closes, with_norm):
    given = case(70, 3, 48, 7, dtype)
    given = given if with_norm else replace(given, norm=None)
    form, y = Form(reads, adds, closes, "tanh", 2.0), torch.zeros(70, 48, dtype=dtype)
    expected = bottlenecked(given, y, form)
    assert_close(given.into(y, kernels, form), expected)


@BOTH
@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("size", [1e-3, 1, 30])
def test_activations_are_those_of_transformers(kernels, dtype, name, size):
    bounds = torch.tensor([[0, 400]], dtype=torch.int32)
    arena = torch.tensor([size, 0, 1, 0], dtype=dtype)
    places = [torch.tensor([i]) for i in range(4)]
    x = random(400, 1, dtype=dtype)
    y = torch.empty_like(x)
    form = Form(reads="f", adds="none", closes=False, activation=name)
    kernels.bottleneck(x, None, y, bounds, arena, Bottlenecks(1, *places), form, None)
    assert_close(y, activation(name)(x.double() * arena[0].double()))


@BOTH
@pytest.mark.parametrize("place", ["f", "r"])
def test_the_output_may_take_the_place_of_an_input(kernels, dtype, place):
    given = case(130, 5, 64, 4, dtype)
    taken_place = getattr(given, place)
    expected = given.into(taken_place.clone(), kernels, PFEIFFER)
    assert torch.equal(given.into(taken_place, kernels, PFEIFFER), expected)


@BOTH
@pytest.mark.parametrize("form", [PFEIFFER, HOULSBY, PARALLEL], ids=["pfeiffer", "houlsby", "parallel"])
def test_a_nan_stays_in_its_row_of_a_bottleneck(kernels, dtype, form):
    given = case(40, 1, 24, 5, dtype)
    clean, got = torch.empty(2, 40, 24, dtype=dtype)
    given.into(clean, kernels, form)
    given.f[7, 3] = given.r[7, 3] = float("nan")
    given.into(got, kernels, form)
    assert got[7].isnan().all()
    got[7] = clean[7]
    assert torch.equal(got, clean)


@BOTH
def test_two_threads_give_what_one_gives(kernels, dtype):
    given = case(400, 9, 64, 8, dtype)
    f, places = given.f, given.places

    def all_of_them():
        mapped, ranked = torch.zeros(400, 8, dtype=dtype), f.clone()
        kernels.linear(f, mapped, given.bounds, given.arena, places["down"], places["down_bias"])
        kernels.low_rank(f, ranked, given.bounds, given.arena, places["down"], places["up"], 8, places["up_bias"])
        return torch.cat([mapped, ranked, given.into(f.clone(), kernels, PFEIFFER)], dim=1)

    assert torch.equal(in_threads(1, all_of_them), in_threads(2, all_of_them))


@BOTH
def test_what_is_no_argument_is_refused_before_anything_is_written(kernels, dtype):
    given = case(40, 3, 24, 5, dtype)
    y, before = torch.zeros(40, 24, dtype=dtype), torch.zeros(40, 24, dtype=dtype)
    outside, twice = given.bounds.clone(), given.bounds.clone()
    outside[1, 1], twice[0], twice[2] = 41, torch.tensor([3, 9]), torch.tensor([8, 12])
    beyond = replace(given.adapters, up_bias=torch.full((3,), given.arena.numel() - 23))
    below = replace(given.adapters, down=given.adapters.down - given.arena.numel())
    bare = Form(reads="f", adds="none", closes=False, activation="relu")
    refused = {
        "bounds must name ranges": (replace(given, bounds=outside), HOULSBY),
        "no row twice": (replace(given, bounds=twice), HOULSBY),
        "offsets must lie in the arena": (replace(given, adapters=beyond), HOULSBY),
        "offsets must lie in the arena, with all": (replace(given, adapters=below), HOULSBY),
        "needs r": (replace(given, r=None), HOULSBY),
        "form .*needs r": (replace(given, r=None), replace(bare, reads="r")),
        "reads='normed'.*needs r": (replace(given, r=None), replace(bare, reads="normed")),
        "adds='sum'.*needs r": (replace(given, r=None), replace(bare, adds="sum")),
        "not 'mish'": (given, replace(bare, activation="mish")),
        "width of a bottleneck": (replace(given, adapters=replace(given.adapters, width=0)), bare),
        "bounds must be torch.int32": (replace(given, bounds=given.bounds.long()), bare),
        r"bounds must be \[segments, 2\]": (replace(given, bounds=given.bounds.flatten()), bare),
        "arena must be": (replace(given, arena=given.arena.double()), bare),
        "up_bias must hold one offset for each of 3": (
            replace(given, adapters=replace(given.adapters, up_bias=given.adapters.up_bias[:2])),
            bare,
        ),
    }
    for words, (wrong, form) in refused.items():
        with pytest.raises(ValueError, match=words):
            wrong.into(y, kernels, form)
        assert torch.equal(y, before), words
    with pytest.raises(ValueError, match="rank must be 1 at least"):
        kernels.low_rank(given.f, y, given.bounds, given.arena, given.adapters.down, given.adapters.up, 0)
    with pytest.raises(ValueError, match="y must be"):
        kernels.linear(given.f, y[1:], given.bounds, given.arena, given.adapters.down)


@BOTH
@pytest.mark.parametrize("rank", [1, 3, 4])
def test_what_one_call_leaves_behind_does_not_reach_the_next(kernels, dtype, rank):
    bounds = segments(1, 30)
    arena, places = laid_out(bounds, {"down": (4, 24), "up": (24, 4)}, dtype)
    poison = torch.full((30, 24), float("nan"), dtype=dtype)
    x, got = random(30, 24, dtype=dtype), torch.zeros(30, 24, dtype=dtype)
    kernels.low_rank(poison, poison.clone(), bounds, arena, places["down"], places["up"], 4)
    kernels.low_rank(x, got, bounds, arena, places["down"], places["up"], rank)
    down, up = taken(arena, places["down"][0], (rank, 24)), taken(arena, places["up"][0], (24, rank))
    assert_close(got, x.double() @ down.T @ up.T)


def test_bfloat16_is_rounded_as_torch_rounds_it(kernels):
    dtype, ones = torch.bfloat16, torch.tensor([[0, 4096]], dtype=torch.int32)
    x = (torch.arange(4096) * 16 + torch.arange(4096) % 16).to(torch.uint16).view(dtype)  # of all sizes, ends and signs
    arena = torch.tensor([1.0, 2**-8], dtype=dtype)
    x = x.where(x.abs() > 1e-30, 1.0).unsqueeze(1).contiguous()  # the processor takes the smallest ones for 0
    y = torch.empty_like(x)
    kernels.linear(x, y, ones, arena, torch.tensor([0]), torch.tensor([1]))
    assert torch.equal(y.nan_to_num(7), (x.float() + 2**-8).to(dtype).nan_to_num(7))


@BOTH
def test_no_rows_and_no_segments_are_nothing(kernels, dtype):
    given = case(40, 3, 24, 5, dtype)
    y = random(40, 24, dtype=dtype)
    none = replace(given.adapters, **{name: getattr(given.adapters, name)[:0] for name in given.shapes})
    empty = replace(given, bounds=torch.zeros(0, 2, dtype=torch.int32), adapters=none)
    assert torch.equal(empty.into(y.clone(), kernels, PFEIFFER), y)
    empty = replace(given, bounds=torch.full((3, 2), 40, dtype=torch.int32))
    assert torch.equal(empty.into(y.clone(), kernels, PFEIFFER), y)
