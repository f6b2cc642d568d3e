import threading

import pytest
import torch
from torch.nn import functional

from adapters.kernels.cpu import ACTIVATIONS, Norm
from adapters.methods.settings import activation
from tests.adapters.kernels.native import BOTH, assert_close, in_threads, random, ranges_of, starts_of


def attended(q, k, v, lengths, scaling, window=None, prefixes=None, *, causal=False):
    """Attention in float64, row by row."""
    outs = []
    for row, (start, end) in enumerate(ranges_of(starts_of(lengths))):
        own = [t[start:end].double().transpose(0, 1) for t in (q, k, v)]
        more = 0
        if prefixes and row in prefixes:
            before = prefixes[row].double().unflatten(-1, k.shape[1:]).transpose(1, 2)
            own[1:] = [torch.cat(pair, dim=1) for pair in zip(before, own[1:], strict=True)]
            more = before.shape[2]
        own[1:] = [t.repeat_interleave(q.shape[1] // k.shape[1], dim=0) for t in own[1:]]
        scores = own[0] @ own[1].transpose(1, 2) * scaling
        if window is not None or causal:
            place = torch.arange(end - start)
            behind = place[:, None] - place[None, :]
            near = behind.abs() < (window or end - start + 1)
            if causal:
                near &= behind >= 0
            scores = scores.masked_fill(~functional.pad(near, (more, 0), value=True), float("-inf"))
        outs.append((scores.softmax(-1) @ own[2]).transpose(0, 1).flatten(1))
    return torch.cat(outs)


def thirds(lengths, heads, width, dtype, seed=0):
    """q, k, v as a fused map leaves them: thirds of one tensor."""
    return random(sum(lengths), 3, heads, width, seed=seed, dtype=dtype).unbind(1)


@BOTH
@pytest.mark.parametrize("width", [1, 3, 16, 24, 32, 48, 64, 80])
def test_every_row_attends_to_itself_alone(kernels, dtype, width):
    lengths = [1, 2, 15, 16, 17, 31, 33, 64, 65, 127, 128, 130, 200]
    q, k, v = thirds(lengths, 3, width, dtype)
    assert_close(kernels.attention(q, k, v, starts_of(lengths), 0.3), attended(q, k, v, lengths, 0.3))


@BOTH
def test_a_long_row_attends_in_many_blocks(kernels, dtype):
    q, k, v = thirds([1500, 7], 1, 32, dtype)
    assert_close(kernels.attention(q * 3, k, v, starts_of([1500, 7]), 0.3), attended(q * 3, k, v, [1500, 7], 0.3))


@BOTH
@pytest.mark.parametrize("window", [1, 2, 16, 65, 128, 400])
def test_a_window_hides_what_is_far(kernels, dtype, window):
    lengths = [1, 5, 64, 300]
    q, k, v = thirds(lengths, 2, 16, dtype)
    got = kernels.attention(q, k, v, starts_of(lengths), 0.5, window=window)
    assert_close(got, attended(q, k, v, lengths, 0.5, window))


@BOTH
@pytest.mark.parametrize("window", [None, 3, 100])
def test_prefixes_are_seen_by_all_tokens_of_their_row(kernels, dtype, window):
    lengths = [4, 1, 150, 9]
    q, k, v = thirds(lengths, 2, 24, dtype)
    prefixes = {row: random(2, more, 48, seed=row, dtype=dtype) for row, more in ((0, 1), (2, 130), (3, 30))}
    got = kernels.attention(q, k, v, starts_of(lengths), 0.4, window=window, prefixes=prefixes)
    assert_close(got, attended(q, k, v, lengths, 0.4, window, prefixes))


@BOTH
@pytest.mark.parametrize("window", [None, 1, 3, 64, 100])
@pytest.mark.parametrize(("heads", "key_heads"), [(2, 2), (4, 2), (3, 1)])
def test_causal_rows_see_what_is_before_them_and_share_keys_and_values(kernels, dtype, window, heads, key_heads):
    lengths = [4, 1, 16, 150, 65, 129]
    q = random(sum(lengths), heads, 24, dtype=dtype)
    k, v = random(sum(lengths), 2, key_heads, 24, seed=1, dtype=dtype).unbind(1)
    prefixes = {
        row: random(2, more, key_heads * 24, seed=row, dtype=dtype) for row, more in ((0, 1), (1, 40), (3, 130))
    }
    for before in ({}, prefixes):
        got = kernels.attention(q, k, v, starts_of(lengths), 0.4, window=window, prefixes=before, causal=True)
        assert_close(got, attended(q, k, v, lengths, 0.4, window, before, causal=True))


@BOTH
def test_shared_keys_of_rows_that_see_all_of_themselves(kernels, dtype):
    lengths = [5, 140]
    q, (k, v) = random(145, 6, 16, dtype=dtype), random(145, 2, 3, 16, seed=1, dtype=dtype).unbind(1)
    assert_close(kernels.attention(q, k, v, starts_of(lengths), 0.3), attended(q, k, v, lengths, 0.3))


@BOTH
def test_large_scores_do_not_overflow(kernels, dtype):
    q, k, v = thirds([40, 300], 2, 32, dtype)
    q = q * 100
    apart = kernels.attention(q, k, v, starts_of([40, 300]), 1.0) - attended(q, k, v, [40, 300], 1.0)
    assert apart.abs().max() < {torch.float32: 1e-3, torch.bfloat16: 0.03}[dtype]  # scores of thousands, rounded


@BOTH
def test_a_row_without_tokens_is_nothing(kernels, dtype):
    q, k, v = thirds([5, 3], 2, 16, dtype)
    starts = torch.tensor([0, 0, 5, 5, 8, 8], dtype=torch.int32)
    assert_close(kernels.attention(q, k, v, starts, 0.3), attended(q, k, v, [5, 3], 0.3))
    assert kernels.attention(q[:0], k[:0], v[:0], starts[:1], 0.3).shape == (0, 32)


@BOTH
@pytest.mark.parametrize("at", ["q", "k", "v"])
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_what_is_not_finite_stays_visible_and_in_its_row(kernels, dtype, at, bad):
    lengths = [33, 17, 140]
    q, k, v = thirds(lengths, 2, 16, dtype)
    expected = kernels.attention(q, k, v, starts_of(lengths), 0.3)
    {"q": q, "k": k, "v": v}[at][40, 1, 3] = bad
    got = kernels.attention(q, k, v, starts_of(lengths), 0.3)
    others = torch.tensor([*range(33), *range(50, 190)])
    assert torch.equal(got[others], expected[others])
    plain = attended(q, k, v, lengths, 0.3).isfinite()
    assert torch.equal(got.isfinite(), plain) and not plain.all()


@BOTH
@pytest.mark.parametrize("width", [3, 16, 24])
def test_what_one_call_leaves_behind_does_not_reach_the_next(kernels, dtype, width):
    lengths = [5, 70]
    kernels.attention(*(t * float("nan") for t in thirds([200], 1, 80, dtype)), starts_of([200]), 1.0)
    q, k, v = thirds(lengths, 2, width, dtype)
    assert_close(kernels.attention(q, k, v, starts_of(lengths), 0.3), attended(q, k, v, lengths, 0.3))


@BOTH
@pytest.mark.parametrize("width", [1, 3, 15, 16, 24, 37, 384, 768])
@pytest.mark.parametrize("with_r", [True, False])
def test_the_norm_of_a_sum(kernels, dtype, width, with_r):
    f, r = random(70, width, dtype=dtype), random(70, width, seed=1, dtype=dtype) if with_r else None
    norm = Norm(random(width, seed=2), random(width, seed=3), 1e-12 if width > 1 else 1e-5)
    total = f.double() if r is None else f.double() + r.double()
    expected = functional.layer_norm(total, (width,), norm.weight.double(), norm.bias.double(), norm.eps)
    assert_close(kernels.add_norm(f, r, norm), expected)
    bare = kernels.add_norm(f, r, Norm(None, None, norm.eps))
    assert_close(bare, functional.layer_norm(total, (width,), eps=norm.eps))


@BOTH
def test_the_norm_holds_far_from_zero_and_for_strided_rows(kernels, dtype):
    wide = random(20, 3 * 64) + 100
    f = wide.to(dtype)[:, 64:128]
    expected = functional.layer_norm(f.double(), (64,), eps=1e-5)
    apart = (kernels.add_norm(f, None, Norm(None, None, 1e-5)).double() - expected).abs().max()
    assert apart < {torch.float32: 2e-5, torch.bfloat16: 0.03}[dtype]  # 100 takes seven bits of every element


@BOTH
def test_a_nan_stays_in_its_row_of_a_norm(kernels, dtype):
    f, norm = random(9, 48, dtype=dtype), Norm(random(48), None, 1e-5)
    expected = kernels.add_norm(f, f, norm)
    f[4, 20] = float("nan")
    got = kernels.add_norm(f, f, norm)
    assert got[4].isnan().all()
    assert torch.equal(got[[*range(4), *range(5, 9)]], expected[[*range(4), *range(5, 9)]])


@BOTH
def test_two_threads_give_what_one_gives(kernels, dtype):
    lengths = [200, 3, 70, 150]
    q, k, v = thirds(lengths, 4, 32, dtype)
    f = random(423, 64, dtype=dtype)

    def all_of_them():
        attended = kernels.attention(q, k, v, starts_of(lengths), 0.2)
        return torch.cat([attended, kernels.add_norm(f, f, Norm(None, None, 1e-5))], dim=1)

    assert torch.equal(in_threads(1, all_of_them), in_threads(2, all_of_them))


def test_several_threads_may_call_at_once(kernels):
    lengths = [90, 40]
    cases = [thirds(lengths, 2, 32, torch.float32, seed=seed) for seed in range(4)]
    found = [None] * len(cases)

    def call(i):
        for _ in range(20):
            found[i] = kernels.attention(*cases[i], starts_of(lengths), 0.2)

    callers = [threading.Thread(target=call, args=(i,)) for i in range(len(cases))]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    for got, case in zip(found, cases, strict=True):
        assert_close(got, attended(*case, lengths, 0.2))


@BOTH
def test_what_is_no_argument_is_refused_by_name(kernels, dtype):
    q, k, v = thirds([5, 3], 2, 16, dtype)
    starts, f = starts_of([5, 3]), random(8, 16, dtype=dtype)
    other = torch.float64
    refused = {
        "q must lie tight": lambda: kernels.attention(q.transpose(1, 2), k, v, starts, 1.0),
        "run torch.bfloat16 or torch.float32, not torch.float64": lambda: kernels.attention(
            q.to(other), k, v, starts, 1.0
        ),
        "k must be": lambda: kernels.attention(q, k[1:], v, starts, 1.0),
        "can not share 0 of keys": lambda: kernels.attention(q, k[:, :0], v[:, :0], starts, 1.0),
        "can not share 3 of keys": lambda: kernels.attention(q, random(8, 3, 16), v, starts, 1.0),
        "v must be": lambda: kernels.attention(q, k, v.to(other), starts, 1.0),
        "starts must be torch.int32": lambda: kernels.attention(q, k, v, starts.long(), 1.0),
        "starts needs one entry more": lambda: kernels.attention(q, k, v, starts[:0], 1.0),
        "window is 1 at least": lambda: kernels.attention(q, k, v, starts, 1.0, window=0),
        "starts must ascend from 0": lambda: kernels.attention(q, k, v, starts.flip(0), 1.0),
        "starts must ascend .* to the number of tokens": lambda: kernels.attention(q, k, v, starts_of([5, 4]), 1.0),
        "starts must ascend": lambda: kernels.attention(q, k, v, starts_of([9, -1]), 1.0),
        "prefixes names row 2": lambda: kernels.attention(q, k, v, starts, 1.0, prefixes={2: random(2, 1, 32)}),
        "r must be": lambda: kernels.add_norm(f, f[:, 1:], Norm(None, None, 1e-5)),
        r"norm's weight must be \[16\]": lambda: kernels.add_norm(f, None, Norm(torch.ones(8), None, 1e-5)),
        "norm's bias must be torch.float32": lambda: kernels.add_norm(
            f, None, Norm(None, torch.ones(16).to(other), 1e-5)
        ),
    }
    for words, call in refused.items():
        with pytest.raises(ValueError, match=words):
            call()


def test_what_fails_inside_is_told_and_harms_no_later_call(kernels):
    class Failing:
        argtypes = None

        def __init__(self, status):
            self.status = status

        def __call__(self, *_):
            return self.status

    f, norm = random(4, 16), Norm(None, None, 1e-5)
    expected, kept = kernels.add_norm(f, None, norm), kernels._functions["add_norm"]
    for status, error in ((4, MemoryError), (5, RuntimeError)):
        kernels._functions["add_norm"] = Failing(status)
        with pytest.raises(error, match="add_norm"):
            kernels.add_norm(f, None, norm)
    kernels._functions["add_norm"] = kept
    assert torch.equal(kernels.add_norm(f, None, norm), expected)


def test_what_torch_says_is_told_in_one_line(kernels, monkeypatch):
    monkeypatch.setitem(kernels._functions, "add_norm", lambda _: 5)
    monkeypatch.setattr(kernels, "_message", lambda: b"no such map\nframe 1\nframe 2")
    with pytest.raises(RuntimeError, match=r"\Aadd_norm: no such map\Z"):
        kernels.add_norm(random(4, 16), None, Norm(None, None, 1e-5))


def test_the_result_of_one_call_outlives_the_next(kernels):
    f, norm = random(4, 16), Norm(None, None, 1e-5)
    first = kernels.add_norm(f, None, norm)
    kept = first.clone()
    kernels.add_norm(random(4, 16, seed=1), None, norm)
    assert torch.equal(first, kept)


@BOTH
@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("size", [1e-3, 1, 30])
def test_an_activation_in_place_is_that_of_transformers(kernels, dtype, name, size):
    x = random(45, 37, dtype=dtype) * size
    expected = activation(name)(x.double())
    kernels.activate(x, name)
    assert_close(x, expected)


@BOTH
def test_an_activation_of_some_columns_leaves_the_others_and_a_nan_its_own_place(kernels, dtype):
    whole = random(40, 30, dtype=dtype)
    whole[7, 3] = float("nan")
    before = whole.clone()
    kernels.activate(whole[:, :17], "relu")
    assert torch.isnan(whole[7, 3])
    expected = torch.where(torch.isnan(before[:, :17]), whole[:, :17], before[:, :17].relu())
    assert torch.equal(whole[:, :17].nan_to_num(9), expected.nan_to_num(9))
    assert torch.equal(whole[:, 17:], before[:, 17:])


def test_an_activation_that_no_kernel_has_is_refused(kernels):
    with pytest.raises(ValueError, match="not 'mish'; use torch's"):
        kernels.activate(random(3, 4), "mish")
