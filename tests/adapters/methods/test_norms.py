import pytest
import torch

from adapters.architectures.sites import Address
from adapters.errors import Misfit
from adapters.kernels.norms import FrozenNorm
from adapters.methods.base import BaseMap, Fitting
from adapters.methods.fold import fitting_of
from adapters.methods.norms import NORMS, reference
from tests.adapters import builders
from tests.adapters.builders import HIDDEN
from tests.adapters.methods import operands

PLACE = Address(1, "ffn_norm")
BOTH = {"sites": {str(PLACE): {"weight": True, "bias": True}}}
PLAIN = fitting_of(builders.profile("bert"))
FROZEN = BaseMap(torch.randn(HIDDEN), torch.randn(HIDDEN))
FITTING = Fitting(PLAIN.geometry, PLAIN.architecture, lambda _: FROZEN)


def test_equals_the_reference_of_every_row():
    norm, x = FrozenNorm(torch.randn(HIDDEN), torch.randn(HIDDEN), 1e-3), operands.tokens(HIDDEN, 1)
    blocks = [NORMS.fold(BOTH, operands.stored(NORMS, BOTH, seed), PLAIN)[PLACE] for seed in (1, 2, 3)]
    out = NORMS.normalise(x, norm, operands.operand(blocks))
    for got, row, segment in zip(operands.rows(out), operands.rows(x), operands.OWNER, strict=True):
        assert torch.allclose(got, reference(blocks[segment], row, 1e-3), atol=1e-5)


def test_what_is_not_stored_stays_the_frozen_norms():
    config = {"sites": {str(PLACE): {"bias": True}}}
    held = operands.stored(NORMS, config, 1)
    block = NORMS.fold(config, held, FITTING)[PLACE]
    assert held.keys() == {f"{PLACE}/bias"}
    assert torch.equal(block.tensors["weight"], FROZEN.weight)
    assert torch.equal(block.tensors["bias"], held[f"{PLACE}/bias"])
    start = NORMS.initialise(BOTH, FITTING, torch.Generator())
    assert torch.equal(start[f"{PLACE}/weight"], FROZEN.weight)


def test_the_norm_of_the_embeddings_is_as_wide_as_they_are():
    config = {"sites": {"model/embed_norm": {"weight": True}}}
    shapes = NORMS.shapes(config, fitting_of(builders.profile("electra")))
    assert shapes == {"model/embed_norm/weight": (builders.NARROW,)}


@pytest.mark.parametrize(
    ("family", "sites", "reason"),
    [
        ("bert", {"0/ffn_norm": {}}, "neither a weight nor a bias"),
        ("bert", {"0/ffn_norm": {"eps": 1}}, "unknown setting 'eps'"),
        ("bert", {"model/final_norm": {"bias": True}}, "no place"),
        ("bert", {"0/embed_norm": {"bias": True}}, "no place"),
        ("modernbert", {"0/attn_norm": {"weight": True}}, "no place"),
    ],
)
def test_norms_that_a_family_lacks_and_wrong_settings_are_refused(family, sites, reason):
    with pytest.raises(Misfit, match=reason):
        NORMS.shapes({"sites": sites}, fitting_of(builders.profile(family)))
