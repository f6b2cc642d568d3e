import pytest

from adapters.architectures.families import ARCHITECTURES
from adapters.architectures.sites import Address
from adapters.errors import Misfit
from adapters.formats.peft.host import Host, host_of
from tests.adapters import builders

BERT = ARCHITECTURES["bert"]


def test_keys_tell_whether_there_was_a_head_around_the_model():
    assert host_of(["base_model.model.bert.encoder.layer.0.output.dense.lora_A.weight"], BERT, 2).prefixed
    assert not host_of(["base_model.model.encoder.layer.0.output.dense.lora_A.weight"], BERT, 2).prefixed


def test_paths_are_those_of_the_model_that_was_saved():
    assert Host(BERT, 1, True).whole_path(Address(0, "ffn_out")) == "bert.encoder.layer.0.output.dense"
    assert Host(BERT, 1, False).modules()["pooler.dense"] == Address(None, "pooler")


@pytest.mark.parametrize(
    ("family", "name"),
    [("llama", "transformer"), ("qwen2", "transformer"), ("qwen3", "transformer"), ("mistral", "model")],
)
def test_a_class_for_questions_calls_the_base_model_by_its_own_name(family, name):
    record, path = ARCHITECTURES[family], "layers.0.self_attn.q_proj"
    key = f"base_model.model.{name}.{path}.lora_A.weight"
    host = host_of([key], record, 1, questions=True)
    assert host.prefixed
    assert host.whole_path(Address(0, "attn_q")) == f"{name}.{path}"
    assert host_of([key], record, 1).prefixed == (name == record.prefix)
    assert Host(record, 1, True).path(path) == f"model.{path}"


def test_a_part_of_a_wider_map_has_no_path():
    with pytest.raises(Misfit, match="as a whole"):
        Host(ARCHITECTURES["modernbert"], 1, False).whole_path(Address(0, "attn_q"))


@pytest.mark.parametrize("family", ARCHITECTURES)
def test_maps_are_in_the_order_of_the_model(family):
    backbone = builders.backbone(family)
    geometry = backbone.profile.geometry
    host = Host(geometry.architecture, geometry.layers, False)
    live = [name for name, _ in backbone.model.named_modules() if name in host.modules()]
    assert live
    assert [path for path in host.in_order(sorted(host.modules())) if path in live] == live


def test_the_stacks_of_an_encoder_decoder_look_words_up_in_modules_of_their_own():
    t5 = ARCHITECTURES["t5"].split(2, gated=False)
    words, decoder_words = Address(None, "words"), Address(None, "decoder_words")
    both = Host(t5, 4, False).word_tables
    assert both == {"encoder.embed_tokens": words, "decoder.embed_tokens": decoder_words}
    assert Host(t5, 4, False, encoder_alone=True).word_tables == {"encoder.embed_tokens": words}
    bart = Host(ARCHITECTURES["bart"].split(2, gated=False), 4, True)
    assert bart.whole_path(decoder_words) == "model.decoder.embed_tokens"
    assert Host(BERT, 2, True).word_tables == {"bert.embeddings.word_embeddings": words}
    assert Host(ARCHITECTURES["vit"], 2, True).word_tables == {}


def test_a_map_whose_place_nobody_knows_is_refused(monkeypatch):
    monkeypatch.setattr("adapters.formats.peft.host._IN_A_LAYER", ("attn_q",))
    with pytest.raises(Misfit, match="is not known"):
        Host(BERT, 1, False).in_order(["pooler.dense"])


def test_an_encoder_saved_without_its_decoder_has_no_map_and_no_norm_of_one():
    record, layers = ARCHITECTURES["t5"].split(2, gated=False), 4
    encoder, decoder = (
        f"base_model.model.{stack}.block.0.layer.0.SelfAttention.q.lora_A.weight" for stack in ("encoder", "decoder")
    )
    alone, both = host_of([encoder], record, layers), host_of([encoder, decoder], record, layers)
    assert (alone.encoder_alone, both.encoder_alone) == (True, False)
    for mine, all_of_them in ((alone.modules(), both.modules()), (alone.norms(), both.norms())):
        assert mine == {path: address for path, address in all_of_them.items() if path.startswith("encoder.")}
        assert 0 < len(mine) < len(all_of_them)
    with_head = encoder.replace("encoder", "transformer.encoder")
    assert not host_of([with_head], record, layers).encoder_alone  # a head of a class with a decoder
    assert not host_of(["base_model.model.encoder.layer.0.output.dense.lora_A.weight"], BERT, 2).encoder_alone


@pytest.mark.parametrize(
    ("family", "sites"),
    [
        ("bert", {"words", "positions", "segments"}),
        ("gpt2", {"words", "positions"}),
        ("deberta-v2", {"words", "positions", "segments"}),
        ("t5", {"words", "decoder_words", "distances", "decoder_distances"}),
        ("bart", {"words", "decoder_words"}),
        ("vit", set()),
    ],
)
def test_tables_that_lora_can_adapt_are_those_that_are_asked_for_vectors_by_number(family, sites):
    record = ARCHITECTURES[family].split(1, gated=False)
    assert {address.site for address in Host(record, 2, False).looked_up().values()} == sites
    alone = Host(record, 2, False, encoder_alone=record.decoder is not None).looked_up()
    assert {address.site for address in alone.values()} == {site for site in sites if "decoder" not in site}
