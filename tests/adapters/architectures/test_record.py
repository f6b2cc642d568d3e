import pytest

from adapters.architectures.encoders import BERT, DISTILBERT
from adapters.architectures.sites import Address


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


def test_widths_follow_the_feed_forward():
    assert BERT.linear_width("ffn_in", 8, 32) == (8, 32)
    assert BERT.linear_width("ffn_out", 8, 32) == (32, 8)
    assert BERT.linear_width("attn_v", 8, 32) == (8, 8)
