import pytest

from adapters.architectures.encoders import BERT, DISTILBERT
from adapters.architectures.families import FAMILIES
from adapters.architectures.modernbert import MODERNBERT
from adapters.architectures.sites import SITES, TABLES, Address, SiteKind


def test_paths_of_linear_sites():
    assert BERT.linear_path(Address(3, "attn_q")) == "encoder.layer.3.attention.self.query"
    assert DISTILBERT.linear_path(Address(0, "ffn_out")) == "transformer.layer.0.ffn.lin2"
    assert BERT.linear_path(Address(None, "pooler")) == "pooler.dense"


@pytest.mark.parametrize("address", [Address(None, "pooler"), Address(0, "ffn_junction")])
def test_a_site_that_the_family_lacks_is_a_key_error(address):
    with pytest.raises(KeyError):
        DISTILBERT.linear_path(address)


def test_addresses_cover_every_layer_once():
    found = list(BERT.addresses(2))
    assert len(found) == len(set(found))
    assert {a.layer for a in found} == {None, 0, 1}
    assert Address(None, "pooler") in found
    assert Address(None, "pooler") not in list(DISTILBERT.addresses(2))


def test_a_site_that_is_all_of_its_map_is_no_part():
    assert BERT.fused(Address(0, "attn_q")) is None
    assert BERT.fused(Address(None, "pooler")) is None
    assert BERT.linear_sites()["attention.self.query"] == ("attn_q",)
    assert set(BERT.linear_sites()) == set(BERT.linear.values())


def test_norms_are_the_layers_own_or_that_of_the_last():
    assert BERT.norm_path(Address(0, "ffn_junction"), 4) == "encoder.layer.0.output.LayerNorm"
    assert MODERNBERT.norm_path(Address(0, "attn_junction"), 4) == "layers.3.mlp_norm"
    assert MODERNBERT.norm_path(Address(0, "ffn_junction"), 4) is None


def test_a_family_without_prefixes_has_no_place_for_them():
    assert Address(None, "attn_kv") in BERT.addresses(1)
    assert not [a for a in MODERNBERT.addresses(2) if SITES[a.site] is SiteKind.ATTENTION_KV]
    assert set(MODERNBERT.refuses) == {"past_prefix", "prefix_tuning", "prompt_tuning"}


@pytest.mark.parametrize("record", FAMILIES, ids=lambda record: record.model_type)
def test_every_record_places_all_that_adapterhub_stores(record):
    assert set(record.hub_bottlenecks) == set(record.junctions) == {"attn_junction", "ffn_junction"}
    linear = {site for site, kind in SITES.items() if kind is SiteKind.LINEAR} - {
        "pooler",
        "embed_map",
        "patches",
        *TABLES,
    }
    crossing = {site for site in linear if site.startswith("cross_")}
    if record.decoder is not None:
        assert set(record.decoder.hub_bottlenecks) == set(record.decoder.junctions)
        assert set(record.decoder.linear) == linear - {"ffn_gate"}
    linear -= crossing
    assert set(record.linear) in (linear, linear - {"ffn_gate"})
    assert set(record.hub_feed_forward.values()) == {"ffn_in", "ffn_out"}
    assert (record.hub_prefix is None) == ("prefix_tuning" in record.refuses)
