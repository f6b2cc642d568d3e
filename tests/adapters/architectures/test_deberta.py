import pytest

from adapters.architectures.profile import read_geometry
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
        ({"share_att_key": False}, 0),
        ({"relative_attention": False}, 0),
        ({"pos_att_type": None}, 0),
    ],
)
def test_the_geometry_tells_how_long_a_table_shares_the_maps_of_queries_and_keys(settings, entries):
    assert read_geometry({**builders.config_json("deberta-v2"), **settings}).relative_positions == entries
