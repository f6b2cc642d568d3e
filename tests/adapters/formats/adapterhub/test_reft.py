import pytest

from adapters.formats.adapterhub.reft import UNSAID, UNSAVED, unsaid, unsaved, write
from tests.adapters.formats.adapterhub.by_hand import reft_config
from tests.adapters.formats.adapterhub.reading import host, keys, read, reasons


def test_a_part_has_every_member():
    (part,) = read(reft_config(layers=[1], tied_weights=True, orthogonality=True, non_linearity="ReLU"))
    assert part.method == "reft"
    assert part.config == {
        "layers": [1],
        "rank": 2,
        "prefix_positions": 3,
        "suffix_positions": 1,
        "tied": True,
        "orthogonal": True,
        "subtract_projection": True,
        "non_linearity": "relu",
    }
    assert read(reft_config())[0].config["layers"] == [0, 1]


def test_what_the_library_does_not_save_is_told_unless_it_is_sure():
    assert list(unsaid(reft_config())) == [UNSAID]
    assert not unsaid(reft_config(orthogonality=True))
    assert not unsaid(reft_config(subtract_projection=True))


def test_only_what_subtracts_computes_the_same_in_the_library():
    kept, direft = (read(reft_config(subtract_projection=subtract))[0].config for subtract in (True, False))
    assert (list(unsaved(kept)), list(unsaved(direft))) == ([], [UNSAVED])


@pytest.mark.parametrize(
    "config",
    [
        reft_config(layers=[1], tied_weights=True),
        reft_config(orthogonality=True, non_linearity="gelu"),
        reft_config(subtract_projection=False),
    ],
)
def test_a_configuration_made_from_a_part_reads_as_the_same_part(config):
    (part,) = read(config)
    assert read(write(part.config, host())) == (part,)


def test_both_units_are_stored_unless_they_are_tied():
    found = keys(reft_config(layers=[0]))
    assert len(found) == 6
    stem = "encoder.layer.0.reft_layer.refts.a.units.1"
    assert found["0/layer_out/units.1.projection"].stored == f"{stem}.projection.weight"
    assert found["0/layer_out/units.1.source.bias"].stored == f"{stem}.learned_source.bias"
    assert len(keys(reft_config(layers=[0], tied_weights=True))) == 3


def test_an_orthogonal_projection_is_stored_as_torch_parametrises_it():
    found = keys(reft_config(orthogonality=True, layers=[1]), "distilbert")
    inside = "transformer.layer.1.reft_layer.refts.a.units.0.projection.parametrizations.weight"
    assert found["1/layer_out/units.0.original"].stored == f"{inside}.original"
    assert found["1/layer_out/units.0.base"].stored == f"{inside}.0.base"


@pytest.mark.parametrize("layers", ["some", [True], [-5], 3, None])
def test_layers_that_are_none_are_refused(layers):
    assert "ReFT: layers must be 'all', or a list of layers from 0, not" in reasons(reft_config(layers=layers))[0]


def test_layers_that_the_model_does_not_have_mean_nothing_as_in_adapterhub():
    assert keys(reft_config(layers=[1, 5])).keys() == keys(reft_config(layers=[1])).keys()


@pytest.mark.parametrize("changes", [{"layers": []}, {"layers": [5]}, {"output_reft": False}])
def test_a_configuration_that_adapts_no_layer_is_refused(changes):
    assert "no module at all" in reasons(reft_config(**changes))[0]
