"""What adapters make of a table of distances, unit by unit."""

import pytest
import torch
from torch.nn import functional

from adapters.architectures.sites import Address
from adapters.batch.distances import own_maps, own_norms, own_tables
from adapters.batch.plan import plan_batch
from adapters.batch.rows import Row
from adapters.kernels.norms import FrozenNorm
from adapters.manifest import PartSpec
from adapters.methods.fold import fold
from tests.adapters import builders
from tests.adapters.builders import HIDDEN

TABLE, NORM, QUERY = Address(None, "distances"), Address(None, "distance_norm"), Address(0, "attn_q")
FROZEN = torch.randn(16, HIDDEN, generator=torch.Generator().manual_seed(1))
PARTS = (
    PartSpec("tables", {"sites": {str(TABLE): {}}}),
    PartSpec("norms", {"sites": {str(NORM): {"weight": True, "bias": True}}}),
    PartSpec("lora", {"sites": {str(QUERY): {"rank": 2, "scaling": 1.5}}}),
)


@pytest.fixture(scope="module")
def packages():
    return [builders.package("deberta-v2", list(PARTS), seed=seed) for seed in (1, 2)]


@pytest.fixture(scope="module")
def relative(packages):
    """Of five rows: bare, one, other, one again, bare; units 1 and 2 are those of the packages, in the plan's order."""
    backbone = builders.backbone("deberta-v2")
    folded = [fold(package, backbone.profile, torch.float32, backbone.base_maps) for package in packages]
    one, other = builders.in_one_arena(folded)
    rows = [Row(members, None, None, builders.ids(1, 4)) for members in ((), (one,), (other,), (one,), ())]
    plan = plan_batch(rows, backbone.profile.geometry, backbone.device, [False] * 5)
    units = [plan.relative.unit_of_row[plan.order.index(row)] for row in range(5)]
    assert units[0] == units[4] == 0 and units[1] == units[3] != units[2]
    return plan.relative, {units[1]: packages[0], units[2]: packages[1]}


def by_unit(tables, relative):
    return tables.view(relative.units, relative.length, -1)


def test_each_unit_has_its_adapters_table_and_the_first_the_frozen_one(relative):
    found, owners = relative
    frozen = builders.backbone("deberta-v2").model.encoder.rel_embeddings.weight.detach()
    tables = by_unit(own_tables(found, TABLE, frozen), found)
    assert torch.equal(tables[0], frozen)
    for unit, package in owners.items():
        assert torch.allclose(tables[unit], package.tensors[f"{TABLE}/rows"], atol=1e-5)


def test_each_unit_has_its_adapters_norm(relative):
    found, owners = relative
    norm = FrozenNorm(torch.rand(HIDDEN), torch.rand(HIDDEN), 1e-3)
    normed = by_unit(own_norms(found, NORM, FROZEN.repeat(3, 1), norm), found)
    assert torch.equal(normed[0], norm(FROZEN))
    for unit, package in owners.items():
        own = [package.tensors[f"{NORM}/{name}"] for name in ("weight", "bias")]
        assert torch.allclose(normed[unit], functional.layer_norm(FROZEN, (HIDDEN,), *own, eps=1e-3), atol=1e-5)


def test_each_unit_has_its_adapters_map(relative):
    found, owners = relative
    weight = torch.randn(HIDDEN, HIDDEN)
    mapped = by_unit(own_maps(found, QUERY, FROZEN.repeat(3, 1), (FROZEN @ weight.T).repeat(3, 1), weight), found)
    assert torch.equal(mapped[0], FROZEN @ weight.T)
    for unit, package in owners.items():
        up, down = (package.tensors[f"{QUERY}/{name}"] for name in ("lora_B", "lora_A"))
        assert torch.allclose(mapped[unit], FROZEN @ (weight + 1.5 * up @ down).T, atol=1e-3)


def test_what_no_adapter_changes_is_handed_on(relative):
    found, _ = relative
    other, weight, mapped = Address(1, "attn_k"), torch.randn(HIDDEN, HIDDEN), torch.randn(48, HIDDEN)
    assert own_maps(found, other, FROZEN.repeat(3, 1), mapped, weight) is mapped
    assert torch.equal(own_tables(found, Address(None, "decoder_distances"), FROZEN), FROZEN.repeat(3, 1))
