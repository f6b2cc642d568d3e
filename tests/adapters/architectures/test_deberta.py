import pytest

from adapters.architectures.geometry import read_geometry
from adapters.architectures.sites import Address
from adapters.errors import UnknownArchitecture
from tests.adapters import builders


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"conv_kernel_size": 3}, "conv_kernel_size is 3: its convolution"),
        ({"embedding_size": builders.HIDDEN // 2}, "embedding_size is 16: embeddings narrower"),
    ],
)
def test_a_model_that_packed_rows_would_get_wrong_is_refused_with_the_reason(settings, reason):
    with pytest.raises(UnknownArchitecture, match=reason):
        read_geometry({**builders.config_json("deberta-v2"), **settings})


def test_every_reason_is_named_at_once():
    with pytest.raises(UnknownArchitecture, match=r"conv_kernel_size.*embedding_size"):
        read_geometry({**builders.config_json("deberta-v2"), "conv_kernel_size": 3, "embedding_size": 8})


def test_harmless_values_of_the_same_members_pass():
    config = {**builders.config_json("deberta-v2"), "conv_kernel_size": 0, "embedding_size": builders.HIDDEN}
    assert read_geometry(config) == builders.profile("deberta-v2").geometry


@pytest.mark.parametrize(
    ("settings", "entries"),
    [
        ({}, 16),
        ({"position_buckets": -1}, 80),
        ({"position_buckets": -1, "max_relative_positions": 12}, 24),
        ({"share_att_key": False}, 16),
        ({"relative_attention": False}, 0),
        ({"pos_att_type": None}, 0),
    ],
)
def test_the_geometry_tells_how_long_the_table_of_distances_is(settings, entries):
    geometry = read_geometry({**builders.config_json("deberta-v2"), **settings})
    assert geometry.relative_positions == geometry.rows("distances") == entries
    assert geometry.relative_maps == settings.get("share_att_key", True)


@pytest.mark.parametrize(
    ("settings", "normed", "places"),
    [({}, True, 0), ({"norm_rel_ebd": "none"}, False, 0), ({"norm_rel_ebd": "None | LAYER_NORM"}, True, 0),
     ({"position_biased_input": True}, True, 40)],
)  # fmt: skip
def test_the_geometry_tells_what_else_a_model_has_of_places(settings, normed, places):
    geometry = read_geometry({**builders.config_json("deberta-v2"), **settings})
    assert geometry.rows("positions") == places
    assert geometry.architecture.has_norm(Address(None, "distance_norm")) == normed
