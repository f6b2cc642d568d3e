from dataclasses import replace

import pytest
import torch
from torch.nn import functional

from adapters.architectures.sites import Address
from adapters.errors import Misfit
from adapters.methods.base import Meeting
from adapters.methods.bottleneck import BOTTLENECK, reference
from adapters.methods.fold import fitting_of
from tests.adapters import builders
from tests.adapters.builders import HIDDEN, PARTS
from tests.adapters.methods import operands

CASES = [name for name, part in PARTS.items() if part.method == "bottleneck"]
F, R = operands.tokens(HIDDEN, 1), operands.tokens(HIDDEN, 2)
FITTING = fitting_of(builders.profile("bert"))


def norm(x):
    return functional.layer_norm(x, (HIDDEN,), eps=1e-12)


def meeting(*, known=False, adds=True, normless=False):
    return Meeting(F, R, None if normless else norm, norm(F + R) if known else None, adds)


def blocks_of(case):
    return operands.folded(PARTS[case], Address.parse(max(PARTS[case].config["sites"])), (1, 2, 3))


def alone(blocks, met, h=F):
    """(output, contribution) of one adapter per row, as a row's only adapter runs."""
    x, residual = BOTTLENECK.enter(h, met, blocks[0].variant)
    state, up = BOTTLENECK.run(x, residual, operands.operand(blocks))
    return BOTTLENECK.leave(state, met, blocks[0].variant), up


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("case", CASES)
def test_equals_the_reference_of_every_row(case, known):
    blocks = blocks_of(case)
    out, _ = alone(blocks, meeting(known=known))
    parts = zip(operands.rows(out), operands.rows(F), operands.rows(R), operands.OWNER, strict=True)
    for got, f, r, segment in parts:
        assert torch.allclose(got, reference(blocks[segment], f, r, norm), atol=1e-4)


@pytest.mark.parametrize("adds", [True, False])
@pytest.mark.parametrize("case", [case for case in CASES if case != "post_add_bn"])
def test_where_no_norm_follows_the_residual_is_added_plainly_or_left_to_the_model(case, adds):
    blocks = blocks_of(case)
    out, _ = alone(blocks, meeting(normless=True, adds=adds))
    parts = zip(operands.rows(out), operands.rows(F), operands.rows(R), operands.OWNER, strict=True)
    for got, f, r, segment in parts:
        assert torch.allclose(got, reference(blocks[segment], f, r, None, adds=adds), atol=1e-4)


def test_a_norm_can_be_read_without_being_applied():
    blocks = blocks_of("seq_bn")
    out, _ = alone(blocks, meeting(adds=False))
    added, _ = alone(blocks, meeting())
    assert torch.allclose(norm(out + R), added, atol=1e-5)
    assert torch.allclose(operands.rows(out)[3], reference(blocks[2], F[6:], R[6:], norm, adds=False), atol=1e-5)


def test_the_next_adapter_of_a_stack_enters_the_state_of_the_one_below():
    blocks, met = blocks_of("seq_bn"), meeting()
    state, _ = BOTTLENECK.run(*BOTTLENECK.enter(F, meeting(known=True), blocks[0].variant), operands.operand(blocks))
    x, residual = BOTTLENECK.enter(state, met, blocks[0].variant)
    assert torch.equal(x, norm(state + R))
    assert residual is state
    x, residual = BOTTLENECK.enter(state, met, replace(blocks[0].variant, residual_before_ln="post_add"))
    assert torch.equal(x, norm(residual))
    assert torch.equal(residual, state + R)
    x, residual = BOTTLENECK.enter(state, met, replace(blocks[0].variant, is_parallel=True))
    assert x is R


def test_the_contribution_is_scaled_but_neither_gated_nor_added_to_anything():
    blocks = blocks_of("seq_bn")
    _, plain = alone(blocks, meeting())
    scaled = [replace(block, variant=replace(block.variant, scaling=4.0)) for block in blocks]
    assert torch.allclose(alone(scaled, meeting())[1], 4 * plain)
    gated = blocks_of("gated_bn")
    ungated = [replace(block, variant=replace(block.variant, use_gating=False)) for block in gated]
    assert torch.equal(alone(gated, meeting())[1], alone(ungated, meeting())[1])
    t = blocks[0].tensors
    x = norm(F[:3] + R[:3])
    z = functional.relu(functional.linear(x, t["down.weight"], t["down.bias"]))
    assert torch.allclose(plain[:3], functional.linear(z, t["up.weight"], t["up.bias"]), atol=1e-5)


def test_a_fusion_asks_with_the_state_the_input_or_the_residual_of_a_parallel_adapter():
    variant, met, state = blocks_of("seq_bn")[0].variant, meeting(), operands.tokens(HIDDEN, 3)
    x, _ = BOTTLENECK.enter(state, met, variant)
    assert BOTTLENECK.query(state, x, met, variant, before_norm=True) is state
    assert BOTTLENECK.query(state, x, met, variant, before_norm=False) is x
    parallel = replace(variant, is_parallel=True)
    for before in (True, False):
        assert BOTTLENECK.query(state, x, met, parallel, before_norm=before) is R


def test_the_gate_is_a_mean_over_one_row_alone():
    blocks, changed = blocks_of("gated_bn"), F.clone()
    changed[0:3] *= -2  # the first row; the second shares its adapter
    before, _ = alone(blocks, meeting())
    after, _ = alone(blocks, replace(meeting(), f=changed), changed)
    assert torch.equal(before[3:], after[3:])
    assert not torch.allclose(before[:3], after[:3])


def test_parameters_are_in_one_order_however_they_were_stored():
    part = PARTS["gated_bn"]
    tensors = builders.package("bert", [part]).tensors
    folds = [
        BOTTLENECK.fold(part.config, dict(items), FITTING) for items in (tensors.items(), [*tensors.items()][::-1])
    ]
    orders = [list(folded[Address(0, "ffn_junction")].tensors) for folded in folds]
    assert orders[0] == orders[1]


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"non_linearity": "nonsense"}, "nonsense"),
        ({"scaling": "huge"}, "scaling"),
        ({"scaling": True}, "scaling"),
        ({"scaling": float("inf")}, "scaling"),
        ({"residual_before_ln": "pre"}, "residual_before_ln"),
        ({"is_parallel": 1}, "is_parallel"),
        ({"residual_before_ln": "post_add", "original_ln_before": False}, "post_add"),
        ({"surprise": 1}, "surprise"),
        ({"sites": {"0/ffn_junction": {"width": 4, "depth": 2}}}, "depth"),
        ({"sites": {"0/ffn_junction": {"width": 0}}}, "width"),
    ],
)
def test_wrong_settings_are_refused_with_the_setting_named(settings, reason):
    config = {**PARTS["seq_bn"].config, **settings}
    for read in (lambda: BOTTLENECK.shapes(config, FITTING), lambda: BOTTLENECK.fold(config, {}, FITTING)):
        with pytest.raises(Misfit, match=reason):
            read()


def test_post_add_is_refused_where_no_norm_follows_and_ignored_by_parallel_adapters():
    bare = replace(FITTING.architecture.junctions["ffn_junction"], norm=None)
    architecture = replace(FITTING.architecture, junctions={**FITTING.architecture.junctions, "ffn_junction": bare})
    config = PARTS["post_add_bn"].config
    with pytest.raises(Misfit, match="needs a norm behind the sublayer; none is at 0/ffn_junction, 1/ffn_junction"):
        BOTTLENECK.shapes(config, replace(FITTING, architecture=architecture))
    parallel = {**config, "is_parallel": True, "original_ln_before": False}
    assert BOTTLENECK.shapes(parallel, replace(FITTING, architecture=architecture))
    attn = {**config, "sites": {"0/attn_junction": {"width": 2}}}
    assert BOTTLENECK.shapes(attn, replace(FITTING, architecture=architecture))


def test_all_reasons_come_at_once():
    part = builders.bottleneck(non_linearity="x", scaling="y", use_gating=None)
    with pytest.raises(Misfit) as caught:
        BOTTLENECK.shapes(part.config, FITTING)
    assert len(caught.value.reasons) == 3
