from dataclasses import replace

import pytest
import torch
from torch import nn

from adapters.architectures.sites import Address
from adapters.errors import Misfit
from adapters.kernels.runs import Runs
from adapters.methods.fold import fitting_of
from adapters.methods.reft import REFT, orthogonal, reference
from tests.adapters import builders
from tests.adapters.builders import HIDDEN, PARTS, reft
from tests.adapters.methods import operands

FITTING = fitting_of(builders.profile("bert"))
LAYER = Address(1, "layer_out")
CASES = [name for name, part in PARTS.items() if part.method == "reft"]
POSITIONS = [(2, 3), (1, 1), (0, 2), (3, 0), (9, 9), (4, 1), (0, 9), (9, 0)]


def parametrised(seed):
    """torch's own orthogonal projection after some training, and its two stored tensors."""
    torch.manual_seed(seed)
    linear = nn.utils.parametrizations.orthogonal(nn.Linear(HIDDEN, 3, bias=False))
    optimiser = torch.optim.SGD(linear.parameters(), lr=0.1)
    for _ in range(5):
        linear(torch.randn(7, HIDDEN)).square().sum().backward()
        optimiser.step()
    held = linear.parametrizations.weight
    return linear, held.original, held[0].base


def edited(blocks, h):
    return REFT.layer_out(h, operands.operand(blocks))


@pytest.mark.parametrize("positions", POSITIONS)
@pytest.mark.parametrize("case", CASES)
def test_equals_the_reference_of_every_row(case, positions):
    first, last = positions
    part = replace(PARTS[case], config={**PARTS[case].config, "prefix_positions": first, "suffix_positions": last})
    blocks, h = operands.folded(part, LAYER, (1, 2, 3)), operands.tokens(HIDDEN, 1)
    before = h.clone()
    out = edited(blocks, h)
    assert torch.equal(h, before)
    for got, row, segment in zip(operands.rows(out), operands.rows(h), operands.OWNER, strict=True):
        assert torch.allclose(got, reference(blocks[segment], row), atol=1e-4)


@pytest.mark.parametrize("case", CASES)
def test_many_short_segments_take_the_padded_path_and_give_the_same(case, monkeypatch):
    rows = tuple((4 * i, 4 * i + 4) for i in range(16))
    for name, value in (("ROWS", rows), ("BOUNDS", rows), ("OWNER", tuple(range(16))), ("TOKENS", 64)):
        monkeypatch.setattr(operands, name, value)
    blocks, h = operands.folded(PARTS[case], LAYER, range(16)), operands.tokens(HIDDEN, 1)
    out = edited(blocks, h)
    for got, row, block in zip(operands.rows(out), operands.rows(h), blocks, strict=True):
        assert torch.allclose(got, reference(block, row), atol=1e-4)


def test_the_first_and_the_last_tokens_of_every_row_are_edited_and_no_others():
    blocks, h = operands.folded(reft(suffix_positions=1), LAYER, (1, 2, 3)), operands.tokens(HIDDEN, 1)
    moved = (edited(blocks, h) != h).any(-1).nonzero().flatten().tolist()
    assert moved == [0, 1, 2, 3, 4, 5, 6, 7, 11]  # rows 0-3, 3-5, 5-6, 6-12: two at the start, one at the end


def test_a_segment_whose_rows_have_no_first_tokens_left_does_not_lend_its_adapter_to_others():
    blocks = operands.folded(reft(prefix_positions=1, suffix_positions=3), LAYER, (1, 2, 3))
    assert [end - start for start, end in operands.ROWS] == [3, 2, 1, 6]  # unit 0 acts in the last row alone
    h = operands.tokens(HIDDEN, 1)
    other = [*operands.folded(reft(prefix_positions=1, suffix_positions=3), LAYER, (7, 8)), blocks[2]]
    assert torch.equal(edited(blocks, h)[6:], edited(other, h)[6:])
    assert not torch.allclose(edited(blocks, h)[:6], edited(other, h)[:6])


@pytest.mark.parametrize(("subtract", "non_linearity"), [(True, None), (False, None), (True, "relu"), (False, "relu")])
def test_folds_to_the_formula_of_the_paper(subtract, non_linearity):
    part = reft(orthogonal=False, subtract_projection=subtract, non_linearity=non_linearity)
    stored = builders.package("bert", [part]).tensors
    folded, x = REFT.fold(part.config, stored, FITTING)[LAYER], operands.tokens(HIDDEN, 1)
    own = {name: stored[f"1/layer_out/units.0.{name}"] for name in ("source.weight", "source.bias", "projection")}
    source = x[0] @ own["source.weight"].T + own["source.bias"]
    source = source.relu() if non_linearity else source
    source = source - x[0] @ own["projection"].T if subtract else source
    assert torch.allclose(reference(folded, x)[0], x[0] + source @ own["projection"], atol=1e-5)


def test_loreft_noreft_and_direft_without_a_non_linearity_share_operands():
    parts = [reft(), reft(orthogonal=False), reft(orthogonal=False, subtract_projection=False)]
    kins = {builders.adapter("bert", [part]).blocks[LAYER][0].kin for part in parts}
    assert len(kins) == 1


@pytest.mark.parametrize("seed", range(4))
def test_an_orthogonal_projection_is_the_one_that_torch_makes_and_has_its_gradient(seed):
    linear, original, base = parametrised(seed)
    made = orthogonal(original, base)
    assert torch.allclose(made, linear.weight, atol=1e-6)
    assert torch.allclose(made @ made.T, torch.eye(3), atol=1e-5)
    probe = torch.randn(3, HIDDEN)
    ours, theirs = (torch.autograd.grad((weight * probe).sum(), original)[0] for weight in (made, linear.weight))
    assert torch.allclose(ours, theirs, atol=1e-5)
    assert float(ours.abs().sum()) > 0


def test_the_gradient_of_an_orthogonal_projection_is_that_of_finite_differences():
    _, original, base = parametrised(5)
    rest = original.detach().double()
    free = torch.ones_like(rest).triu(1)  # nothing else of it is a parameter

    def made(x):
        return orthogonal(rest * (1 - free) + x * free, base.double())

    assert torch.autograd.gradcheck(made, (rest.clone().requires_grad_(),))


def test_training_leaves_the_base_alone():
    tensors = {name: tensor.requires_grad_() for name, tensor in builders.package("bert", [reft()]).tensors.items()}
    folded = REFT.fold(reft().config, tensors, FITTING)
    sum(t.square().sum() for block in folded.values() for t in block.tensors.values()).backward()
    assert {name for name, tensor in tensors.items() if tensor.grad is None} == {
        n for n in tensors if n.endswith("base")
    }


def test_starts_with_an_orthogonal_pair_of_which_the_projection_is_the_first_rows():
    start = REFT.initialise(reft().config, FITTING, torch.Generator().manual_seed(0))
    original, base = (start[f"0/layer_out/units.1.{name}"] for name in ("original", "base"))
    made = orthogonal(original, base)
    assert torch.allclose(made @ made.T, torch.eye(3), atol=1e-5)
    assert torch.allclose(made, base.T[:3], atol=1e-6)
    assert REFT.fold(reft().config, start, FITTING)


@pytest.mark.parametrize("value", [0.97, 0.0, -0.9999999, 2.0])
def test_a_diagonal_that_is_not_one_is_refused_with_every_place_named(value):
    tensors = dict(builders.package("bert", [reft()]).tensors)
    for name in ("0/layer_out/units.1.original", "1/layer_out/units.0.original"):
        tensors[name] = tensors[name].clone()
        tensors[name][1, 1] = value
    with pytest.raises(Misfit, match="weight decay") as caught:
        REFT.fold(reft().config, tensors, FITTING)
    assert [reason.split()[1] for reason in caught.value.reasons] == [
        "0/layer_out/units.1.original",
        "1/layer_out/units.0.original",
    ]


def test_half_precision_originals_are_made_up_in_single_precision():
    _, original, base = parametrised(1)
    half = orthogonal(original.detach().to(torch.bfloat16), base.to(torch.bfloat16))
    assert half.dtype == torch.float32
    assert torch.allclose(half @ half.T, torch.eye(3), atol=0.05)


def test_tied_units_are_stored_once():
    assert {name.split(".")[1] for name in REFT.shapes(reft(tied=True).config, FITTING)} == {"0"}
    assert {name.split(".")[1] for name in REFT.shapes(reft(suffix_positions=0).config, FITTING)} == {"0", "1"}


def test_units_act_on_the_rows_of_the_operand_wherever_they_lie():
    block = operands.folded(reft(), LAYER, (1,))
    runs = Runs(((2, 6), (9, 12)), ((0, 4), (4, 7)), 20, torch.device("cpu"))
    h = operands.tokens(HIDDEN, 1)[:7]
    operand = replace(operands.operand(block * 2), runs=runs)
    out = REFT.layer_out(h, operand)
    assert torch.allclose(out[4:], reference(block[0], h[4:]), atol=1e-5)
    assert torch.allclose(out[:4], reference(block[0], h[:4]), atol=1e-5)


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"layers": [2]}, "layers must be ascending numbers below 2"),
        ({"layers": []}, "matches no layer"),
        ({"rank": 0}, "rank"),
        ({"rank": HIDDEN}, "wider"),
        ({"prefix_positions": 0, "suffix_positions": 0}, "edits no token"),
        ({"prefix_positions": -1}, "prefix_positions"),
        ({"suffix_positions": True}, "suffix_positions"),
        ({"tied": None}, "tied"),
        ({"non_linearity": "nonsense"}, "nonsense"),
        ({"dropout": 0.05}, "dropout"),
    ],
)
def test_wrong_settings_are_refused_with_the_setting_named(settings, reason):
    with pytest.raises(Misfit, match=reason):
        REFT.shapes(reft(**settings).config, FITTING)


def test_layers_that_share_runs_share_the_places_that_are_edited():
    block = operands.folded(reft(), LAYER, (1, 2, 3))
    operand = operands.operand(block)
    other = replace(operands.operand(operands.folded(reft(), LAYER, (4, 5, 6))), runs=operand.runs)
    h = operands.tokens(HIDDEN, 1)
    one, two = REFT.layer_out(h, operand), REFT.layer_out(h, other)
    assert not torch.equal(one, two)
    fresh = operands.operand(operands.folded(reft(), LAYER, (4, 5, 6)))
    assert torch.equal(two, REFT.layer_out(h, fresh))
