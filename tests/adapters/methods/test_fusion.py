import itertools

import pytest
import torch

from adapters.architectures.sites import Address
from adapters.errors import Misfit
from adapters.manifest import Manifest, PartSpec
from adapters.methods.fold import expected
from adapters.methods.fusion import FUSION, attend, before_norm, reference
from adapters.weights import Folded
from tests.adapters import builders
from tests.adapters.builders import HIDDEN, sites
from tests.adapters.methods import operands

AT = Address(0, "ffn_junction")
FITTING = operands.fitting()
ARMS = 3
FLAGS = ("query", "key", "value", "residual_before", "value_before_softmax")
VARIANTS = [v for v in itertools.product((True, False), repeat=5) if any(v[:3])]


def config(**settings) -> dict:
    plain = dict.fromkeys((*FLAGS, "query_before_ln"), False) | {"query": True, "key": True, "value": True}
    return {**plain, **settings, "sites": sites(("ffn_junction",))}


def blocks(settings: dict, seeds=(1, 2, 3)) -> list[Folded]:
    return [FUSION.fold(settings, operands.stored(FUSION, settings, seed), FITTING)[AT] for seed in seeds]


@pytest.mark.parametrize("flags", VARIANTS)
def test_every_variant_equals_the_reference_of_every_row(flags):
    held = blocks(config(**dict(zip(FLAGS, flags, strict=True))))
    query, residual = operands.tokens(HIDDEN, 1), operands.tokens(HIDDEN, 2)
    contributions = torch.stack([operands.tokens(HIDDEN, 3 + arm) for arm in range(ARMS)], dim=1)
    out = attend(query, contributions, residual, operands.operand(held))
    shares = zip(*(operands.rows(t) for t in (out, query, contributions, residual)), operands.OWNER, strict=True)
    for got, q, u, r, segment in shares:
        assert torch.allclose(got, reference(held[segment], q, u, r), atol=1e-4)


def test_starts_as_the_mean_of_its_adapters_over_the_residual():
    start = FUSION.initialise(config(), FITTING, torch.Generator().manual_seed(0))
    zero = {name: torch.zeros_like(t) if "query" in name else t for name, t in start.items()}
    one = FUSION.fold(config(), zero, FITTING)[AT]
    q, r = torch.randn(4, HIDDEN), torch.randn(4, HIDDEN)
    u = torch.randn(4, ARMS, HIDDEN)
    assert torch.allclose(reference(one, q, u, r), u.mean(1) + r, atol=1e-3)


def test_says_whether_it_asks_before_the_norm():
    assert before_norm(operands.operand(blocks(config(query_before_ln=True))))
    assert not before_norm(operands.operand(blocks(config())))


def test_stores_only_the_maps_that_it_has():
    shapes = FUSION.shapes(config(value=False, key=False), FITTING)
    assert set(shapes) == {f"{layer}/ffn_junction/query.{kind}" for layer in (0, 1) for kind in ("weight", "bias")}


@pytest.mark.parametrize(
    ("settings", "fault"),
    [
        ({"query": False, "key": False, "value": False}, "nothing to attend with"),
        ({"query": 1}, "query must be true or false"),
        ({"temperature": True}, "unknown setting 'temperature'"),
        ({"sites": {"0/attn_q": {}}}, "no place for it at 0/attn_q"),
    ],
)
def test_wrong_configurations_are_refused(settings, fault):
    with pytest.raises(Misfit, match=fault):
        FUSION.shapes({**config(), **settings}, FITTING)


@pytest.mark.parametrize(
    ("kind", "parts", "fault"),
    [
        ("adapter", (PartSpec("fusion", config()),), "belongs to a package of kind 'fusion'"),
        ("fusion", (builders.PARTS["seq_bn"],), "exactly one part, of the method 'fusion'"),
        ("fusion", (PartSpec("fusion", config()),) * 2, "exactly one part"),
    ],
)
def test_fusions_are_packages_of_their_own(kind, parts, fault):
    manifest = Manifest(kind, builders.requires("bert"), parts, children=("a", "b") if kind == "fusion" else ())
    with pytest.raises(Misfit, match=fault):
        expected(manifest, builders.profile("bert"))


def test_gradients_are_those_of_finite_differences():
    settings = config()
    held = {n: t.double() for n, t in operands.stored(FUSION, settings, 1).items() if n.startswith(f"{AT}/")}
    names = [n.rsplit("/", 1)[1] for n in held]
    q, r = torch.randn(2, HIDDEN).double(), torch.randn(2, HIDDEN).double()
    u = torch.randn(2, ARMS, HIDDEN).double()

    def run(*values):
        folded = Folded("fusion", blocks(settings)[0].variant, dict(zip(names, values, strict=True)))
        return reference(folded, q, u, r)

    assert torch.autograd.gradcheck(run, tuple(t.requires_grad_() for t in held.values()), fast_mode=True)
