from dataclasses import replace

import pytest

from adapters.errors import Misfit
from adapters.formats.check import check
from adapters.formats.peft import folder as peft
from adapters.formats.peft.replication import ranges_of, route_of
from adapters.manifest import PartSpec, Provenance
from adapters.methods.fold import LONGEST_ROUTE
from adapters.weights import Package
from tests.adapters.formats.folders import CLASSIFIER, LAYERS, peft_lora_keys, profile
from tests.adapters.formats.peft.reading import assert_same, basic, reasons

RANGES = [[0, 2], [1, 2], [0, 1]]
ROUTE = (0, 1, 1, 0)
DEEP = [
    f"bert.encoder.layer.{place}.attention.self.{name}" for place in range(len(ROUTE)) for name in ("query", "value")
]


def replicated(path, **settings):
    return basic(path, peft_lora_keys(DEEP) | CLASSIFIER, layer_replication=RANGES, **settings)


@pytest.mark.parametrize(
    ("ranges", "route"),
    [
        (None, None),
        ([], None),
        ([[0, 3]], None),
        ([[0, 2], [2, 3]], None),
        ([[0, 2]], (0, 1)),
        ([[0, 3], [1, 3], [0, 1]], (0, 1, 2, 1, 2, 0)),
    ],
)
def test_ranges_stand_for_the_order_of_layers(ranges, route):
    assert route_of({"layer_replication": ranges}, 3) == route


@pytest.mark.parametrize("route", [(0,), (0, 1, 2, 1, 2, 0), (2, 1, 0), (1, 1, 2)])
def test_a_route_is_written_as_ranges_that_read_as_the_same(route):
    assert route_of({"layer_replication": ranges_of(route)}, 3) == route


@pytest.mark.parametrize("ranges", ["0-3", [0, 3], [[0, 4]], [[2, 2]], [[-1, 2]], [[0, True]], [[0, 1, 2]], [["0", 2]]])
def test_what_is_no_range_of_layers_is_refused(ranges):
    with pytest.raises(Misfit, match="layer_replication must be a list of ranges"):
        route_of({"layer_replication": ranges}, 3)


def test_no_more_layers_are_laid_out_than_can_be_run():
    longest = [[0, 3]] * LONGEST_ROUTE
    assert len(route_of({"layer_replication": longest}, 3)) == 3 * LONGEST_ROUTE
    with pytest.raises(Misfit, match=f"makes {3 * LONGEST_ROUTE + 1} layers; at most {3 * LONGEST_ROUTE}"):
        route_of({"layer_replication": [*longest, [0, 1]]}, 3)


def test_replicated_layers_are_read_and_round_trip(tmp_path):
    package = peft.read(replicated(tmp_path / "in"), profile())
    assert package.manifest.route == ROUTE
    assert package.manifest.requires.layers == LAYERS
    assert f"{len(ROUTE) - 1}/attn_v/lora_A" in package.tensors
    check(package, profile())
    peft.write(package, tmp_path / "out")
    assert_same(package, peft.read(tmp_path / "out", profile()))


def test_without_the_configuration_it_came_with_the_route_is_written_as_well(tmp_path):
    package = peft.read(replicated(tmp_path / "in"), profile())
    trained = Package(replace(package.manifest, provenance=Provenance("chorus", "1")), package.tensors)
    peft.write(trained, tmp_path / "out")
    again = peft.read(tmp_path / "out", profile())
    assert (again.manifest.route, again.manifest.parts) == (ROUTE, package.manifest.parts)


def test_another_route_than_that_of_the_configuration_is_written_as_it_is(tmp_path):
    package = peft.read(replicated(tmp_path / "in"), profile())
    other = Package(replace(package.manifest, route=(1, 1, 0, 0)), package.tensors)
    peft.write(other, tmp_path / "out")
    assert peft.read(tmp_path / "out", profile()).manifest.route == (1, 1, 0, 0)


def test_a_checkpoint_must_have_the_layers_that_its_configuration_replicates(tmp_path):
    assert any("lacks bert.encoder.layer.2" in reason for reason in reasons(basic(tmp_path, layer_replication=RANGES)))
    assert reasons(basic(tmp_path / "plain", peft_lora_keys(DEEP) | CLASSIFIER))


def test_only_lora_has_replicated_layers(tmp_path):
    package = peft.read(replicated(tmp_path / "in"), profile())
    other = replace(package.manifest, parts=(PartSpec("ia3", {"sites": {"0/attn_k": {"scaling": 1.0}}}),))
    with pytest.raises(Misfit, match="for LoRA alone"):
        peft.write(Package(other, package.tensors), tmp_path / "out")
