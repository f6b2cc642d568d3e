import pytest
import torch
from torch.nn import functional

from adapters.architectures.sites import Address
from adapters.errors import Misfit
from adapters.methods.bottleneck import BOTTLENECK, reference
from adapters.methods.fold import fitting_of
from tests.adapters import builders
from tests.adapters.builders import HIDDEN, PARTS
from tests.adapters.methods import operands

CASES = [name for name, part in PARTS.items() if part.method == "bottleneck"]


def norm(x: torch.Tensor) -> torch.Tensor:
    return functional.layer_norm(x, (HIDDEN,), eps=1e-12)


def address(case: str) -> Address:
    return Address.parse(max(PARTS[case].config["sites"]))


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("case", CASES)
def test_equals_the_reference_of_every_row(case, known):
    blocks = operands.folded(PARTS[case], address(case), (1, 2, 3))
    f, r = operands.tokens(HIDDEN, 1), operands.tokens(HIDDEN, 2)
    out = BOTTLENECK.junction(f, f, r, norm, norm(f + r) if known else None, operands.operand(blocks))
    parts = zip(operands.rows(out), operands.rows(f), operands.rows(r), operands.OWNER, strict=True)
    for got, fr, rr, segment in parts:
        assert torch.allclose(got, reference(blocks[segment], fr, rr, norm), atol=1e-4)


def test_below_the_top_of_a_stack_nothing_is_added_after_the_adapter():
    blocks = operands.folded(PARTS["seq_bn"], address("seq_bn"), (1, 2, 3))
    f, r = operands.tokens(HIDDEN, 1), operands.tokens(HIDDEN, 2)
    low = BOTTLENECK.junction(f, f, r, norm, None, operands.operand(blocks, final=False))
    top = BOTTLENECK.junction(f, f, r, norm, None, operands.operand(blocks))
    assert torch.allclose(norm(low + r), top, atol=1e-5)


def test_the_gate_is_a_mean_over_one_row_alone():
    blocks = operands.folded(PARTS["gated_bn"], address("gated_bn"), (1, 2, 3))
    f, r = operands.tokens(HIDDEN, 1), operands.tokens(HIDDEN, 2)
    before = BOTTLENECK.junction(f, f, r, norm, None, operands.operand(blocks))
    f2 = f.clone()
    f2[0:3] *= -2  # the first row; the second shares its adapter
    after = BOTTLENECK.junction(f2, f2, r, norm, None, operands.operand(blocks))
    assert torch.equal(before[3:], after[3:])
    assert not torch.allclose(before[:3], after[:3])


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"non_linearity": "nonsense"}, "nonsense"),
        ({"scaling": "huge"}, "scaling"),
        ({"scaling": True}, "scaling"),
        ({"residual_before_ln": "pre"}, "residual_before_ln"),
        ({"is_parallel": 1}, "is_parallel"),
        ({"residual_before_ln": "post_add", "original_ln_before": False}, "post_add"),
        ({"surprise": 1}, "surprise"),
    ],
)
def test_wrong_settings_are_refused_with_the_setting_named(settings, reason):
    part = builders.bottleneck(**settings)
    with pytest.raises(Misfit, match=reason):
        BOTTLENECK.shapes(part.config, fitting_of(builders.profile("bert")))


def test_all_reasons_come_at_once():
    part = builders.bottleneck(non_linearity="x", scaling="y", use_gating=None)
    with pytest.raises(Misfit) as caught:
        BOTTLENECK.shapes(part.config, fitting_of(builders.profile("bert")))
    assert len(caught.value.reasons) == 3
