from dataclasses import replace

import pytest

from adapters.errors import InvalidPackage
from adapters.manifest import Manifest, PartSpec, from_json, to_json
from adapters.requires import Requires, parse_requires
from tests.adapters import builders


def test_it_is_the_backbones_own_sizes():
    assert Requires.of(builders.profile("bert").geometry) == Requires("bert", builders.HIDDEN, builders.LAYERS, 4)
    found = Requires.of(builders.profile("mt5").geometry)
    assert (found.encoder_layers, found.gated) == (1, True)


def test_what_older_packages_lack_is_not_written_where_it_says_nothing():
    manifest = Manifest("adapter", Requires("bert", 8, 2, 2))
    assert "encoder_layers" not in to_json(manifest)
    assert "gated" not in to_json(manifest)
    assert "averaged" not in to_json(manifest)


def test_a_backbone_whose_heads_read_the_mean_says_so_and_comes_back():
    geometry = replace(builders.profile("modernbert").geometry, averaged=True)
    manifest = Manifest("adapter", Requires.of(geometry), (PartSpec("lora", {}),))
    assert manifest.requires.averaged
    assert from_json(to_json(manifest)).requires == manifest.requires


def test_an_encoder_decoders_come_back():
    own = Requires("t5", 8, 5, 2, encoder_layers=3, gated=True)
    assert (
        parse_requires(
            {"model_type": "t5", "hidden_size": 8, "layers": 5, "heads": 2, "encoder_layers": 3, "gated": True}
        )
        == own
    )
    manifest = Manifest("adapter", own, (PartSpec("lora", {}),))
    assert from_json(to_json(manifest)).requires == own
    assert to_json(replace(manifest, requires=replace(own, gated=False))) != to_json(manifest)


@pytest.mark.parametrize(("member", "value"), [("gated", 1), ("averaged", 1), ("encoder_layers", -1), ("heads", "2")])
def test_a_wrong_member_is_named(member, value):
    raw = {"model_type": "t5", "hidden_size": 8, "layers": 5, "heads": 2, member: value}
    with pytest.raises(InvalidPackage, match=member):
        parse_requires(raw)
