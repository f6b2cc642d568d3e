import pytest
import torch

from adapters.errors import Misfit
from adapters.methods.tuners.frod import FROD
from tests.adapters.methods.operands import stored
from tests.adapters.methods.tuners.formulas import DOWN, FITTING, SITE, UP, at, close, delta, weight


def folded(said, tensors):
    return {str(a): delta(block) for a, block in FROD.fold(said, tensors, FITTING).items()}


def held(count, **sites):
    said = {"sites": {site: {"category": name, "count": count} for name, site in sites.items()}}
    tensors = stored(FROD, said, 1)
    for name, site in sites.items():
        basis = tensors[f"model/frod/V.{name}"]
        tensors[f"model/frod/V.{name}"] = 2 * torch.eye(weight(site).shape[1]) + 0.1 * basis  # easy to invert
        if count:
            places = torch.tensor([[0, 1, 2, 3], [3, 3, 1, 0]][:2])[:, :count]
            tensors[f"model/frod/places.{name}"] = places.float()
    return said, tensors


@pytest.mark.parametrize("count", [0, 4])
def test_the_map_is_put_together_from_its_directions_and_what_changed_between_them(count):
    said, tensors = held(count, one=SITE, other=UP)
    for name, site in (("one", SITE), ("other", UP)):
        basis, own = tensors[f"model/frod/V.{name}"], at(tensors, site)
        columns = weight(site) @ torch.linalg.inv(basis).T
        lengths = columns.norm(dim=0)
        assert close((columns / lengths) @ torch.diag(lengths) @ basis.T, weight(site))
        inner = torch.diag(own["l"])
        for i in range(count):
            row, column = tensors[f"model/frod/places.{name}"][:, i].int().tolist()
            inner[row, column] += own["values"][i]
        want = (columns / lengths) @ inner @ basis.T - weight(site)
        assert torch.allclose(folded(said, tensors)[site], want, atol=1e-3, rtol=1e-3)


def test_the_lengths_that_the_map_has_change_nothing():
    said, tensors = held(0, one=SITE)
    columns = weight(SITE).double() @ torch.linalg.inv(tensors["model/frod/V.one"].double()).T
    tensors[f"{SITE}/l"] = columns.norm(dim=0).float()
    assert folded(said, tensors)[SITE].abs().max() < 1e-4


def test_a_basis_that_can_not_be_inverted_is_one_as_far_as_it_goes():
    said, tensors = held(0, one=SITE)
    tensors["model/frod/V.one"] = torch.diag(torch.tensor([0.0, *[2.0] * (weight(SITE).shape[1] - 1)]))
    tensors[f"{SITE}/l"] = 2 * weight(SITE).norm(dim=0) / 4
    want = weight(SITE).clone()
    want[:, 0] = 0
    assert close(weight(SITE) + folded(said, tensors)[SITE], want)


def test_entries_outside_of_the_basis_and_kinds_of_several_widths_are_refused():
    said, tensors = held(4, one=SITE)
    tensors["model/frod/places.one"][0, 0] = weight(SITE).shape[1]
    with pytest.raises(Misfit, match="an entry of one lies outside"):
        FROD.fold(said, tensors, FITTING)
    sites = {site: {"category": "one", "count": 0} for site in (SITE, DOWN)}
    with pytest.raises(Misfit, match=r"model/frod/V.one is shared by maps of several widths"):
        FROD.shapes({"sites": sites}, FITTING)


def test_a_kind_has_a_name():
    with pytest.raises(Misfit, match="category must be a name"):
        FROD.shapes({"sites": {SITE: {"category": 3, "count": 0}}}, FITTING)
