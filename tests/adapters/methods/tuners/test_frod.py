import pytest
import torch
from torch.nn import functional

from adapters.architectures.sites import Address
from adapters.errors import Misfit
from adapters.methods.base import BaseMap, Fitting
from adapters.methods.tuners.frod import FROD
from tests.adapters import builders
from tests.adapters.methods.operands import stored
from tests.adapters.methods.tuners.formulas import DOWN, FITTING, SITE, UP, at, close, delta, weight

OTHER = "0/attn_v"


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


def built(count=5, ridge=0.01):
    """Two maps of one kind, and one of another, whose bases are not stored."""
    kinds = {SITE: "b", OTHER: "b", DOWN: "a"}
    more = {"count": count, "built": True, "seed": 6, "ridge": ridge}
    said = {"sites": {site: {"category": kind, **more} for site, kind in kinds.items()}}
    return said, stored(FROD, said, 1)


def distinct(address):
    """A frozen map that no other address has."""
    wide, out = FITTING.widths(address.site)
    generator = torch.Generator().manual_seed(sum(map(ord, str(address))))
    return BaseMap(torch.randn(out, wide, generator=generator), torch.zeros(out))


def test_what_is_not_stored_is_built_of_the_maps_of_a_kind_and_drawn_kind_by_kind():
    said, tensors = built()
    assert not any(name.startswith("model/") for name in tensors)
    fitting = Fitting(FITTING.geometry, FITTING.architecture, distinct)
    deltas = {str(a): delta(made) for a, made in FROD.fold(said, tensors, fitting).items()}
    generator = torch.Generator().manual_seed(6)
    for sites in ((DOWN,), (OTHER, SITE)):  # layer by layer
        weights = [distinct(Address.parse(site)).weight for site in sites]
        wide = weights[0].shape[1]
        stacked = torch.cat(weights)
        if len(stacked) < wide:
            basis = torch.linalg.svd(stacked, full_matrices=True)[2].T
        else:
            columns, upper = torch.linalg.qr(stacked)
            squares = [part.T @ part + 0.01 * torch.eye(wide) for part in columns.chunk(len(weights))]
            mean = sum(torch.linalg.inv(square) for square in squares) / len(weights)
            basis = upper.T @ torch.linalg.eigh(mean)[1]
        beside = torch.tensor([(i, j) for i in range(wide) for j in range(wide) if i != j])
        rows, columns = beside[torch.randperm(len(beside), generator=generator)[:5]].T
        for site, own in zip(sites, weights, strict=True):
            turned = (own.double() @ torch.linalg.inv(basis.double()).T).float()
            inner = torch.diag(at(tensors, site)["l"])
            inner[rows, columns] += at(tensors, site)["values"]
            want = functional.normalize(turned, dim=0) @ inner @ basis.T - own
            assert torch.allclose(deltas[site], want, atol=2e-3, rtol=1e-3)


def test_the_decoders_maps_take_the_place_of_the_encoders_in_a_kind():
    geometry = builders.profile("t5").geometry
    fitting = Fitting(geometry, geometry.architecture, distinct)
    encoder, decoder = "0/attn_q", f"{geometry.encoder_layers}/attn_q"

    def made(*sites):
        same = {"category": "a", "count": 0, "built": True, "seed": 6, "ridge": 0.1}
        tensors = {f"{site}/l": torch.linspace(1, 2, builders.HIDDEN) for site in (encoder, decoder)}
        said = {"sites": dict.fromkeys(sites, same)}
        return {str(a): delta(one) for a, one in FROD.fold(said, tensors, fitting).items()}

    both = made(encoder, decoder)
    assert close(both[decoder], made(decoder)[decoder])
    assert not torch.allclose(both[encoder], made(encoder)[encoder], atol=1e-2)


def test_no_entries_are_drawn_where_none_are_said_and_not_more_than_there_are():
    said, tensors = built(count=0)
    assert all(made.tensors["delta"].isfinite().all() for made in FROD.fold(said, tensors, FITTING).values())
    said, tensors = built(count=5000)
    with pytest.raises(Misfit, match="5000 entries are more than"):
        FROD.fold(said, tensors, FITTING)


def test_a_kind_has_a_name():
    with pytest.raises(Misfit, match="category must be a name"):
        FROD.shapes({"sites": {SITE: {"category": 3, "count": 0}}}, FITTING)
