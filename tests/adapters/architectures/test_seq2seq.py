import pytest
import torch
from transformers import AutoModel

from adapters.architectures.geometry import read_geometry
from adapters.architectures.profile import read_profile
from adapters.architectures.seq2seq import BART, MBART, T5
from adapters.architectures.sites import SITES, TABLES, Address, SiteKind
from adapters.backbone import Backbone
from adapters.batch.rows import Row
from adapters.errors import UnknownArchitecture
from tests.adapters import builders

ROWS = ((5, 3), (7, 3), (30, 25), (5, 3), (1, 1), (33, 36))


@pytest.mark.parametrize("family", builders.SEQ2SEQ)
@pytest.mark.parametrize("settings", [{}, {"feed_forward_proj": "gated-gelu"}, {"feed_forward_proj": "relu"}])
def test_packed_rows_are_those_of_transformers_own_model(family, settings):
    if settings and family not in ("t5", "mt5"):
        settings = {"activation_function": "relu"}
    elif settings:
        gated = settings["feed_forward_proj"].startswith("gated")
        settings |= {"is_gated_act": gated, "dense_act_fn": "gelu_new" if gated else "relu"}
    more = {"num_layers": 2, "num_decoder_layers": 3, "encoder_layers": 2, "decoder_layers": 3}
    path = builders.variant(family, **more, **settings)
    backbone, plain = Backbone.load(path), AutoModel.from_pretrained(path, attn_implementation="eager").eval()
    rows = [Row((), None, None, builders.ids(n, n), decoder_ids=builders.ids(99 + n, m)) for n, m in ROWS]
    answers = backbone.run(rows, ["hidden_state"] * len(rows))
    encoded = backbone.run(rows, ["encoder_hidden_state"] * len(rows))
    for row, answer, states in zip(rows, answers, encoded, strict=True):
        with torch.no_grad():
            ids = {
                "input_ids": torch.tensor(row.input_ids)[None],
                "decoder_input_ids": torch.tensor(row.decoder_ids)[None],
            }
            expected = plain(**ids)
        assert torch.allclose(answer, expected.last_hidden_state[0], atol=2e-5)
        assert torch.allclose(states, expected.encoder_last_hidden_state[0], atol=2e-5)


@pytest.mark.parametrize("family", builders.SEQ2SEQ)
def test_every_linear_site_and_norm_is_a_module_of_its_width(family):
    backbone, geometry = builders.backbone(family), builders.profile(family).geometry
    record = geometry.architecture
    for address in record.addresses(geometry.layers):
        if address.site in TABLES:
            assert backbone.model.get_submodule(record.linear_path(address)).weight.shape == (
                geometry.rows(address.site),
                geometry.table_width(address.site),
            )
        elif SITES[address.site] is SiteKind.LINEAR:
            module = backbone.model.get_submodule(record.linear_path(address))
            assert geometry.linear_width(address.site) == (module.in_features, module.out_features), address
        elif SITES[address.site] is SiteKind.NORM:
            assert backbone.model.get_submodule(record.own_norm_path(address)).weight.shape == (builders.HIDDEN,)


def test_layers_are_numbered_through_and_cross_sites_are_the_decoders():
    record = T5.split(4, gated=False)
    assert record.layer_path(3) == "encoder.block.3"
    assert record.layer_path(5) == "decoder.block.1"
    assert record.linear_path(Address(4, "cross_q")) == "decoder.block.0.layer.1.EncDecAttention.q"
    assert record.attention_path(Address(4, "cross_kv")) == "decoder.block.0.layer.1.EncDecAttention"
    found = set(record.addresses(6))
    assert {a.layer for a in found if a.site == "cross_junction"} == {4, 5}
    assert Address(None, "cross_kv") in found
    assert Address(None, "decoder_kv") in found
    assert {Address(None, "words"), Address(None, "decoder_words")} <= found
    assert not {a.site for a in found} & {"positions", "decoder_positions"}
    assert [record.in_decoder(Address(4, site)) for site in ("attn_q", "cross_q", "cross_k", "cross_v")] == [
        True, True, False, False,
    ]  # fmt: skip
    assert not record.in_decoder(Address(3, "attn_q"))


def test_a_gate_gives_both_stacks_another_map():
    record = T5.split(1, gated=True)
    assert record.linear_path(Address(0, "ffn_in")) == "encoder.block.0.layer.1.DenseReluDense.wi_1"
    assert record.linear_path(Address(1, "ffn_gate")) == "decoder.block.0.layer.2.DenseReluDense.wi_0"
    assert "ffn_gate" not in T5.split(1, gated=False).linear


def test_what_a_configuration_says_of_heads_and_of_the_decoders_start():
    config = builders.config_json("t5")
    assert read_geometry(config | {"tie_word_embeddings": True}).head_scale == builders.HIDDEN**-0.5
    assert read_geometry(config | {"tie_word_embeddings": False}).head_scale is None
    assert read_profile(builders.folder("bart")).geometry.head_scale is None
    bart = builders.profile("bart").geometry
    assert (bart.decoder_start, bart.eos_token_id, bart.encoder_layers, bart.layers) == (2, 2, 1, 2)
    assert (BART.decoder.start, MBART.decoder.start) == ("configured", "last")


def test_stacks_of_different_sizes_are_refused():
    reasons = BART.unmet({"decoder_ffn_dim": 8, "encoder_ffn_dim": 16})
    assert len(reasons) == 1
    assert "decoder_ffn_dim" in reasons[0]


def test_the_norm_behind_the_decoders_embeddings_is_a_site_of_the_decoder():
    own = Address(None, "decoder_embed_norm")
    for family, model in ((BART, "bart"), (MBART, "mbart")):
        path = family.own_norm_path(own)
        assert builders.backbone(model).model.get_submodule(path).weight.shape == (builders.HIDDEN,)
        assert family.in_decoder(own)
        assert not family.in_decoder(Address(None, "embed_norm"))
    assert not T5.has_norm(own)


@pytest.mark.parametrize("family", ["bart", "mbart"])
def test_stacks_that_read_words_from_tables_of_their_own_are_refused(family):
    with pytest.raises(UnknownArchitecture, match="tie_word_embeddings is False"):
        read_profile(builders.variant(family, tie_word_embeddings=False))


@pytest.mark.parametrize("family", ["t5", "mt5"])
def test_t5s_stacks_read_one_table_whatever_is_said_of_the_head(family):
    folder = builders.variant(family, tie_word_embeddings=False)
    model, ids = AutoModel.from_pretrained(folder).eval(), torch.tensor([[5, 6, 7, 8, 2]])
    with torch.no_grad():
        wanted = model(input_ids=ids, decoder_input_ids=ids).last_hidden_state[0]
    row = Row((), None, None, ids[0].numpy(), decoder_ids=ids[0].numpy())
    (found,) = Backbone.load(folder).run([row], ["hidden_state"])
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-4)
