import pytest
import torch
from torch.nn import functional

from adapters.architectures.sites import Address
from adapters.errors import Misfit
from adapters.methods.base import Meeting
from adapters.methods.bottleneck import BOTTLENECK
from adapters.methods.compacter import COMPACTER, reference
from adapters.methods.fold import fitting_of
from tests.adapters import builders
from tests.adapters.builders import HIDDEN, PARTS, compacter
from tests.adapters.methods import operands

FITTING = fitting_of(builders.profile("bert"))
FFN = Address(0, "ffn_junction")
SHARINGS = [
    {"shared_W": shared, "shared_rule": rule, "factorized_W": thin, "factorized_rule": thin_rule, "phm_bias": bias}
    for shared in (False, True)
    for rule in (False, True)
    for thin in (False, True)
    for thin_rule in (False, True)
    for bias in (False, True)
]


def tensors_of(part, seed=0):
    return builders.package("bert", [part], seed=seed).tensors


def phm(x, stored, name):
    """The map `name` of layer 0, read from what is stored, in the words of the source library."""

    def find(parameter):
        for where in (f"0/ffn_junction/{name}.", f"model/compacter/{name}.", "model/compacter/"):
            if where + parameter in stored:
                return stored[where + parameter]
        return None

    rule, blocks = find("rule"), find("W")
    rule = rule if rule is not None else find("rule_left") @ find("rule_right")
    blocks = blocks if blocks is not None else find("W_left") @ find("W_right")
    return reference(x, rule, blocks, find("b"))


@pytest.mark.parametrize("sharing", SHARINGS)
def test_every_sharing_folds_to_the_maps_of_its_phm_layers(sharing):
    part = compacter(phm_rank=2, **sharing)
    stored = tensors_of(part)
    folded = COMPACTER.fold(part.config, stored, FITTING)[FFN]
    t, x = folded.tensors, operands.tokens(HIDDEN, 1)
    narrow = functional.linear(x, t["down.weight"], t["down.bias"])
    assert torch.allclose(narrow, phm(x, stored, "down"), atol=1e-5)
    assert torch.allclose(functional.linear(narrow, t["up.weight"], t["up.bias"]), phm(narrow, stored, "up"), atol=1e-5)
    assert folded.method == "bottleneck"


@pytest.mark.parametrize("case", [name for name, part in PARTS.items() if part.method == "compacter"])
def test_equals_the_phm_layers_of_every_row_over_mixed_segments(case):
    part, met = PARTS[case], Meeting(*(operands.tokens(HIDDEN, seed) for seed in (1, 2)), lambda x: x, None, adds=False)
    stored = [tensors_of(part, seed) for seed in (1, 2, 3)]
    blocks = [COMPACTER.fold(part.config, each, FITTING)[FFN] for each in stored]
    x, residual = BOTTLENECK.enter(met.f, met, blocks[0].variant)
    _, up = BOTTLENECK.run(x, residual, operands.operand(blocks))
    for got, row, segment in zip(operands.rows(up), operands.rows(x), operands.OWNER, strict=True):
        expected = phm(functional.gelu(phm(row, stored[segment], "down")), stored[segment], "up")
        assert torch.allclose(got, expected, atol=1e-4)


def test_shares_operands_with_a_plain_bottleneck_of_the_same_settings():
    part = compacter(use_gating=True, scaling="channel", ln_before=True)
    plain = builders.bottleneck(width=8, use_gating=True, scaling="channel", ln_before=True, non_linearity="gelu")
    kins = [builders.adapter("bert", [p]).blocks[FFN][0].kin for p in (part, plain)]
    assert kins[0] == kins[1]


def test_what_is_shared_is_stored_once_and_the_rest_at_every_site():
    shapes = COMPACTER.shapes(compacter(shared_W=True).config, FITTING)
    assert {name for name in shapes if name.startswith("model/")} == {
        *(f"model/compacter/{m}.W_{side}" for m in ("down", "up") for side in ("left", "right")),
        "model/compacter/rule",
    }
    assert {name for name in shapes if name.startswith("1/")} == {f"1/ffn_junction/{m}.b" for m in ("down", "up")}
    own = COMPACTER.shapes(compacter(shared_rule=False).config, FITTING)
    assert not any(name.startswith("model/") for name in own)
    assert own["0/ffn_junction/up.W_left"] == (4, 2, 1)
    assert own["0/ffn_junction/down.rule"] == (4, 4, 4)


def test_starts_as_in_the_source_library():
    part = compacter(width=16, factorized_W=False, shared_rule=False, use_gating=True, scaling="learned")
    start = COMPACTER.initialise(part.config, FITTING, torch.Generator().manual_seed(0))
    blocks = torch.cat([t.flatten() for name, t in start.items() if name.endswith(".W")])
    assert float(blocks.std()) == pytest.approx((2 / (HIDDEN // 4 + 4)) ** 0.5, rel=0.1)
    assert float(start["0/ffn_junction/down.rule"].std()) == pytest.approx(0.01, rel=0.3)
    assert not start["0/ffn_junction/up.b"].any()
    assert start["0/ffn_junction/scaling"] == 1
    shared = COMPACTER.initialise(compacter().config, FITTING, torch.Generator().manual_seed(0))
    assert float(shared["model/compacter/rule"].std()) == pytest.approx(1e-4, rel=0.3)


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"phm_dim": 3}, "phm_dim 3 does not divide the width 8"),
        ({"phm_dim": 3}, "phm_dim 3 does not divide the width 32"),
        ({"phm_dim": 0}, "phm_dim"),
        ({"phm_rank": None}, "phm_rank"),
        ({"phm_bias": None}, "phm_bias"),
        ({"shared_rule": "yes"}, "shared_rule"),
        ({"scaling": "huge"}, "compacter: scaling"),
        ({"learn_phm": True}, "learn_phm"),
    ],
)
def test_wrong_settings_are_refused_with_the_setting_named(settings, reason):
    with pytest.raises(Misfit, match=reason):
        COMPACTER.shapes(compacter(**settings).config, FITTING)


def test_shared_blocks_need_one_width():
    config = {
        **compacter(shared_W=True).config,
        "sites": {"0/ffn_junction": {"width": 4}, "1/ffn_junction": {"width": 8}},
    }
    with pytest.raises(Misfit, match=r"shared_W needs one width at all sites, not \[4, 8\]"):
        COMPACTER.shapes(config, FITTING)
