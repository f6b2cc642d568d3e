import pytest
import torch

from adapters.architectures.sites import Address
from adapters.batch.attention import Packing, attend
from adapters.batch.segments import layout_of
from adapters.errors import Misfit
from adapters.methods.fold import fitting_of
from adapters.methods.prefix_tuning import PAST_PREFIX, PREFIX_TUNING, reference
from adapters.weights import Insertion
from tests.adapters import builders
from tests.adapters.builders import HIDDEN, PARTS
from tests.adapters.methods import operands

FITTING = fitting_of(builders.profile("bert"))


@pytest.mark.parametrize("case", [name for name, part in PARTS.items() if part.method == "prefix_tuning"])
def test_equals_the_reference_of_every_row(case):
    blocks = operands.folded(PARTS[case], Address(1, "attn_kv"), (1, 2, 3))
    operand = operands.operand(blocks)
    layout = layout_of(end - start for start, end in operands.ROWS)
    q, k, v, x = (operands.tokens(HIDDEN, seed) for seed in (1, 2, 3, 4))
    prefixes = {row: PREFIX_TUNING.keys_values(operand, segment) for row, segment in enumerate(operands.OWNER)}
    gates = PREFIX_TUNING.gates(x, operand)
    if gates is not None:
        prefixes = {row: prefix * gates[row, :, None, None] for row, prefix in prefixes.items()}
    split = [t.view(-1, 4, HIDDEN // 4) for t in (q, k, v)]
    packing = Packing(layout, torch.device("cpu"))
    out = attend(*split, packing, prefixes, (HIDDEN // 4) ** -0.5).reshape(-1, HIDDEN)
    for i, segment in enumerate(operands.OWNER):
        own = slice(*operands.ROWS[i])
        assert torch.allclose(out[own], reference(blocks[segment], q[own], k[own], v[own], 4, x[own]), atol=1e-5)


def test_gates_are_means_over_single_rows_for_keys_and_for_values():
    address, x = Address(1, "attn_kv"), operands.tokens(HIDDEN, 1)
    assert PREFIX_TUNING.gates(x, operands.operand(operands.folded(PARTS["prefix_mlp"], address, (1,)))) is None
    shared, separate = (
        PREFIX_TUNING.gates(x, operands.operand(operands.folded(PARTS[case], address, (1, 2, 3))))
        for case in ("prefix_gated", "prefix_gates")
    )
    assert shared.shape == separate.shape == (4, 2)
    assert torch.equal(shared[:, 0], shared[:, 1])
    assert not torch.allclose(separate[:, 0], separate[:, 1])
    changed = x.clone()
    changed[:3] += 1  # the first row; the second shares its adapter
    after = PREFIX_TUNING.gates(changed, operands.operand(operands.folded(PARTS["prefix_gates"], address, (1, 2, 3))))
    assert torch.equal(after[1:], separate[1:])
    assert not torch.allclose(after[0], separate[0])


def test_every_layer_with_a_prefix_has_a_gate_of_its_own():
    shapes = PREFIX_TUNING.shapes(PARTS["prefix_gated"].config, FITTING)
    assert {n: s for n, s in shapes.items() if "gate" in n} == {
        f"{layer}/attn_kv/gate.{kind}": shape
        for layer in (0, 1)
        for kind, shape in (("weight", (1, HIDDEN)), ("bias", (1,)))
    }
    separate = PREFIX_TUNING.shapes(PARTS["prefix_gates"].config, FITTING)
    assert separate["1/attn_kv/gate.weight"] == (2, HIDDEN)
    assert "0/attn_kv/gate.weight" not in separate


def test_the_reparametrisation_uses_its_own_non_linearity_which_is_tanh_where_none_is_named():
    config = PARTS["prefix_mlp"].config
    tensors, address = builders.package("bert", [PARTS["prefix_mlp"]]).tensors, Address(1, "attn_kv")
    made = {
        name: PREFIX_TUNING.fold({**config, **named}, tensors, FITTING)[address].tensors["keys_values"]
        for name, named in (("unnamed", {}), ("tanh", {"non_linearity": "tanh"}), ("relu", {"non_linearity": "relu"}))
    }
    assert torch.equal(made["unnamed"], made["tanh"])
    assert not torch.allclose(made["relu"], made["tanh"])


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"gating": "both"}, "gating"),
        ({"gating": True}, "gating"),
        ({"non_linearity": "x"}, "'x'"),
        ({"flat": 1}, "flat"),
    ],
)
def test_wrong_settings_are_refused(settings, reason):
    with pytest.raises(Misfit, match=reason):
        PREFIX_TUNING.shapes({**PARTS["prefix_flat"].config, **settings}, FITTING)


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


def test_a_past_is_a_flat_prefix_of_all_layers_that_shifts_positions():
    fitting, config = fitting_of(builders.profile("bert")), {"length": 3, "segments": True}
    held = operands.stored(PAST_PREFIX, config, 1)
    flat = {"length": 3, "flat": True, "layers": list(range(builders.LAYERS))}
    past, plain = PAST_PREFIX.fold(config, held, fitting), PREFIX_TUNING.fold(flat, held, fitting)
    assert past.keys() == plain.keys()
    assert all(torch.equal(past[a].tensors["keys_values"], plain[a].tensors["keys_values"]) for a in past)
    assert PAST_PREFIX.insertion(config) == Insertion(0, 0, shift=3, segments=True)
    assert PREFIX_TUNING.insertion(flat) is None
    with pytest.raises(Misfit, match="past_prefix: unknown setting 'flat'"):
        PAST_PREFIX.shapes(flat, fitting)
