import pytest

from adapters.architectures.sites import SITES, Address, SiteKind


def test_the_table_is_closed_over_the_kinds():
    assert set(SITES.values()) == set(SiteKind)


@pytest.mark.parametrize("address", [Address(0, "attn_q"), Address(11, "ffn_junction"), Address(None, "embed_out")])
def test_addresses_print_and_parse_back(address):
    assert Address.parse(str(address)) == address


@pytest.mark.parametrize(
    "text", ["", "0", "0/", "0/nowhere", "x/attn_q", "attn_q", "0/attn_q/more", "00/attn_q", "+1/attn_q", "None/attn_q"]
)
def test_what_is_no_address_is_refused(text):
    with pytest.raises(ValueError, match=r".+"):
        Address.parse(text)
