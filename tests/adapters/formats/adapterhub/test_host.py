import pytest

from adapters.errors import Misfit
from adapters.formats.adapterhub.host import grid, host_for, host_of, left_out
from adapters.requires import Requires
from tests.adapters.formats.adapterhub.reading import host
from tests.adapters.formats.folders import profile


def test_a_host_is_a_backbone_s_sizes_and_record():
    found = host_of(profile("albert", layers=3).geometry)
    assert (found.family.model_type, found.hidden_size, found.layers) == ("albert", 8, 3)
    assert host_for(Requires("bert", 16, 2, 2), 12) == host(hidden=16, embedding=12)


def test_a_family_without_a_record_has_no_host():
    with pytest.raises(Misfit, match="gptj"):
        host_for(Requires("gptj", 8, 2, 2), 8)


def test_layers_that_are_not_adapted_are_left_out():
    assert left_out({0, 2}, host(layers=3)) == [1]


def test_a_grid_has_the_same_sites_in_every_layer():
    assert grid({"0/attn_q": {}, "0/ffn_in": {}}, host()) == ({"attn_q", "ffn_in"}, [1])
    for sites in ({"0/attn_q": {}, "1/attn_k": {}}, {"0/attn_q": {}, "model/pooler": {}}, {}):
        with pytest.raises(Misfit, match="same modules"):
            grid(sites, host())
