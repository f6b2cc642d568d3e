import pytest

from adapters.architectures.geometry import read_geometry
from adapters.architectures.sites import TABLES
from adapters.errors import UnknownArchitecture
from tests.adapters import builders


def test_members_that_a_configuration_leaves_out_have_the_familys_values():
    config = builders.config_json("roberta")
    config.pop("pad_token_id")
    config.pop("type_vocab_size")
    geometry = read_geometry(config)
    assert (geometry.pad_token_id, geometry.max_tokens, geometry.type_vocabulary) == (1, 38, 2)


def test_a_configuration_of_nothing_known_is_refused_by_name():
    with pytest.raises(UnknownArchitecture, match="hidden_size"):
        read_geometry({"model_type": "bert", "max_position_embeddings": 5})
    with pytest.raises(UnknownArchitecture, match="no record for model type 'gptj'"):
        read_geometry({"model_type": "gptj"})


@pytest.mark.parametrize(
    ("family", "said", "tied"),
    [
        ("bert", {}, True),
        ("gpt2", {}, True),
        ("llama", {}, False),
        ("t5", {}, True),
        ("mt5", {}, False),
        ("vit", {}, False),
        ("llama", {"tie_word_embeddings": True}, True),
        ("gpt2", {"tie_word_embeddings": False}, False),
    ],
)
def test_whether_heads_over_the_vocabulary_read_the_words_is_the_configurations_or_the_familys(family, said, tied):
    config = {key: value for key, value in builders.config_json(family).items() if key != "tie_word_embeddings"}
    assert read_geometry(config | said).tied is tied


@pytest.mark.parametrize(
    ("family", "tables"),
    [
        ("bert", dict.fromkeys(("words", "positions", "segments"), builders.HIDDEN)),
        ("albert", dict.fromkeys(("words", "positions", "segments"), builders.NARROW)),
        ("deberta-v2", {"words": 32, "distances": 32}),
        ("t5", {"words": 32, "decoder_words": 32, "distances": 4, "decoder_distances": 4}),
        ("vit", {}),
    ],
)
def test_tables_that_a_model_has_are_as_wide_as_what_reads_them(family, tables):
    geometry = builders.profile(family).geometry
    sites = {a.site for a in geometry.architecture.addresses(geometry.layers)}
    assert {table for table in TABLES if table in sites and geometry.rows(table)} == set(tables)
    assert {table: geometry.table_width(table) for table in tables} == tables
