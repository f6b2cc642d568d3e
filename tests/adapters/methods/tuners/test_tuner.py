import pytest
import torch

from adapters.architectures.sites import Address
from adapters.errors import Misfit
from adapters.methods.base import Fitting
from adapters.methods.tuners.hira import HIRA
from adapters.methods.tuners.tuner import divided
from adapters.methods.tuners.vera_vectors import VERA_VECTORS
from tests.adapters.methods.tuners.formulas import FITTING, SITE, UP, block, config, delta, stored, weight

VERA = {"rank": 2, "stored": True, "seed": 0}


def test_what_all_sites_share_is_stored_once_with_the_largest_widths():
    shapes = VERA_VECTORS.shapes(config(VERA, SITE, UP), FITTING)
    (wide, out) = (weight(SITE).shape[1], weight(UP).shape[0])
    assert shapes["model/vera_vectors/A"] == (2, wide)
    assert shapes["model/vera_vectors/B"] == (out, 2)
    assert set(shapes) - {"model/vera_vectors/A", "model/vera_vectors/B"} == {
        f"{site}/lambda_{vector}" for site in (SITE, UP) for vector in "db"
    }


def test_it_is_not_trained_here():
    with pytest.raises(Misfit, match="hira is not trained here: train it with PEFT"):
        HIRA.initialise(config({"rank": 2}), FITTING, torch.Generator())


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ({"rank": 0}, r"hira: sites.1/attn_v.rank must be a positive integer, not 0"),
        ({"rank": 2, "alpha": 3}, r"sites.1/attn_v: unknown setting 'alpha'"),
        ({}, "rank must be a positive integer, not None"),
    ],
)
def test_settings_that_say_nothing_sensible_are_refused(said, reason):
    with pytest.raises(Misfit, match=reason):
        HIRA.shapes(config(said), FITTING)


def test_halves_are_widened_before_they_are_multiplied():
    tensors = {name: t.half() for name, t in stored(HIRA, {"rank": 3}).items()}
    wide = {name: t.float() for name, t in tensors.items()}
    assert torch.equal(delta(block(HIRA, {"rank": 3}, tensors)), delta(block(HIRA, {"rank": 3}, wide)))


def test_without_the_backbone_s_weights_the_fold_has_its_size():
    bare = Fitting(FITTING.geometry, FITTING.architecture)
    folded = HIRA.fold(config({"rank": 3}), stored(HIRA, {"rank": 3}), bare)[Address.parse(SITE)]
    assert folded.tensors["delta"].shape == weight(SITE).shape


def test_widths_divide_or_are_named():
    assert divided("the block", 12, 4) == 3
    for by in (5, 0):
        with pytest.raises(Misfit, match=f"the block {by} does not divide the width 12"):
            divided("the block", 12, by)
