import pytest

from adapters.errors import Misfit
from adapters.manifest import Manifest
from adapters.methods.fold import expected, fitting_of
from adapters.methods.presets import PRESETS, part_of
from tests.adapters import builders


@pytest.mark.parametrize("family", builders.FAMILIES)
@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_fits_every_family(preset, family):
    profile = builders.profile(family)
    manifest = Manifest("adapter", builders.requires(family), (part_of(preset, fitting_of(profile)),))
    assert expected(manifest, profile)


def test_an_unknown_preset_is_refused_naming_those_there_are():
    with pytest.raises(Misfit, match="bottleneck, double_bottleneck"):
        part_of("magic", fitting_of(builders.profile("bert")))
