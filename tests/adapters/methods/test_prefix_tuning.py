import pytest
import torch

from adapters.architectures.sites import Address
from adapters.batch.attention import Packing, attend
from adapters.batch.segments import layout_of
from adapters.errors import Misfit
from adapters.methods.fold import fitting_of
from adapters.methods.prefix_tuning import PREFIX_TUNING, reference
from tests.adapters import builders
from tests.adapters.builders import HIDDEN, PARTS
from tests.adapters.methods import operands

FITTING = fitting_of(builders.profile("bert"))


@pytest.mark.parametrize("case", ["prefix_flat", "prefix_mlp"])
def test_equals_the_reference_of_every_row(case):
    blocks = operands.folded(PARTS[case], Address(1, "attn_kv"), (1, 2, 3))
    operand = operands.operand(blocks)
    layout = layout_of(end - start for start, end in operands.ROWS)
    q, k, v = (operands.tokens(HIDDEN, seed) for seed in (1, 2, 3))
    prefixes = {row: PREFIX_TUNING.keys_values(operand, segment) for row, segment in enumerate(operands.OWNER)}
    split = [t.view(-1, 4, HIDDEN // 4) for t in (q, k, v)]
    packing = Packing(layout, torch.device("cpu"))
    out = attend(*split, packing, prefixes, (HIDDEN // 4) ** -0.5).reshape(-1, HIDDEN)
    for i, segment in enumerate(operands.OWNER):
        own = slice(*operands.ROWS[i])
        assert torch.allclose(out[own], reference(blocks[segment], q[own], k[own], v[own], 4), atol=1e-5)


def test_a_flat_prefix_is_ordered_by_token_then_layer_then_keys_before_values():
    config = {"length": 3, "flat": True, "layers": [0, 1]}
    flat = torch.arange(3 * 4 * HIDDEN, dtype=torch.float32)
    folded = PREFIX_TUNING.fold(config, {"model/attn_kv/control_trans": flat}, FITTING)
    view = flat.view(3, 4, HIDDEN)
    assert torch.equal(folded[Address(1, "attn_kv")].tensors["keys_values"][0], view[:, 2])
    assert torch.equal(folded[Address(0, "attn_kv")].tensors["keys_values"][1], view[:, 1])


def test_only_the_named_layers_get_a_prefix():
    package = builders.package("bert", [PARTS["prefix_mlp"]])
    folded = PREFIX_TUNING.fold(PARTS["prefix_mlp"].config, package.tensors, FITTING)
    assert set(folded) == {Address(1, "attn_kv")}


@pytest.mark.parametrize("layers", [[], [2], [1, 0], [0, 0], None, [-1], [True], [1, "a"], [{}], [0.0]])
def test_layers_that_the_backbone_lacks_are_refused(layers):
    with pytest.raises(Misfit, match="layer"):
        PREFIX_TUNING.shapes({"length": 3, "flat": True, "layers": layers}, FITTING)
