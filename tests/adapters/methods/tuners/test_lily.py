import pytest
import torch
from torch.nn import functional

from adapters.architectures.sites import Address
from adapters.errors import Misfit
from adapters.methods.tuners.lily import LILY
from adapters.weights import Block, Span
from tests.adapters.methods import operands
from tests.adapters.methods.tuners.formulas import FITTING, SITE, UP, at, block, config, stored, weight

SAID = {"rank": 3, "experts": 2, "scaling": 1.5}


def wanted(held, x):
    """One row's delta as PEFT computes a batch of one."""
    narrow = x @ held["A"].T
    shares = functional.softmax(narrow @ held["router"].T, dim=-1).mean(0)
    mixed = sum(share * expert for share, expert in zip(shares, held["B"].chunk(2), strict=True))
    return 1.5 * narrow @ mixed


@pytest.mark.parametrize("site", [SITE, UP])
def test_every_row_mixes_its_own_experts_by_the_mean_of_its_tokens(site):
    held = [stored(LILY, SAID, site, seed=seed) for seed in range(len(operands.BOUNDS))]
    operand = operands.operand([block(LILY, SAID, tensors, site) for tensors in held])
    out, wide = weight(site).shape
    x, y = operands.tokens(wide, 3), operands.tokens(out, 4)
    given = LILY.apply(LILY.change(None, x, weight(site), operand), y, x, weight(site), operand)
    for start, end in operands.ROWS:
        segment = next(i for i, (first, last) in enumerate(operands.BOUNDS) if first <= start < last)
        want = y[start:end] + wanted(at(held[segment], site), x[start:end])
        assert torch.allclose(given[start:end], want, atol=1e-5, rtol=1e-4)


def test_in_a_chain_it_reads_the_state_below():
    tensors = stored(LILY, SAID, SITE)
    operand = operands.operand([block(LILY, SAID, tensors)] * len(operands.BOUNDS))
    x, state = operands.tokens(weight(SITE).shape[1], 3), operands.tokens(weight(SITE).shape[0], 5)
    assert torch.equal(LILY.change(state, x, weight(SITE), operand), LILY.change(None, state, weight(SITE), operand))
    assert not torch.equal(LILY.change(state, x, weight(SITE), operand), LILY.change(None, x, weight(SITE), operand))


@pytest.mark.parametrize(("out", "follows"), [(32, True), (48, False)])
def test_it_follows_where_the_map_takes_a_state(out, follows):
    made = Block("lily", None, {"down": Span(0, (8, 32)), "up": Span(9, (out, 16)), "router": Span(12, (2, 8))})
    assert LILY.chains(made) == follows
    assert LILY.chains(made, first=True)


def test_the_rank_is_padded_and_the_scaling_folded():
    folded = LILY.fold(config(SAID), stored(LILY, SAID), FITTING)[Address.parse(SITE)]
    assert {name: tuple(t.shape) for name, t in folded.tensors.items()} == {
        "down": (8, weight(SITE).shape[1]),
        "router": (2, 8),
        "up": (weight(SITE).shape[0], 16),
    }


def test_it_is_not_trained_here():
    with pytest.raises(Misfit, match="lily is not trained here"):
        LILY.initialise(config(SAID), FITTING, torch.Generator())
    assert LILY.insertion(config(SAID)) is None
