from dataclasses import replace

import pytest
import torch

from adapters.architectures.sites import Address
from adapters.errors import Misfit
from adapters.manifest import EmbeddingSpec, HeadSpec, Manifest, PartSpec
from adapters.methods.fold import expected, fold
from tests.adapters import builders
from tests.adapters.builders import HEADS, PARTS

PROFILE = builders.profile("bert")


def test_expected_names_every_tensor_of_parts_and_head():
    manifest = Manifest("adapter", builders.requires("bert"), (PARTS["invertible"],), HEADS["one_layer"])
    assert set(expected(manifest, PROFILE)) == {
        *(f"model/embed_out/{net}.{i}.{kind}" for net in "FG" for i in (0, 2) for kind in ("weight", "bias")),
        "head/0/weight",
    }


def test_every_reason_comes_at_once():
    requires = replace(builders.requires("bert"), model_type="roberta", layers=9)
    parts = (PartSpec("adalora", {}), PartSpec("lora", {"sites": {"5/attn_q": {"rank": 2, "scaling": 1.0}}}))
    head = replace(HEADS["pooler"], activation="nonsense")
    with pytest.raises(Misfit) as caught:
        expected(Manifest("adapter", requires, parts, head), replace(PROFILE, has_pooler=False))
    text = str(caught.value)
    for said in ("roberta", "layers 9", "adalora", "5/attn_q", "pooler", "nonsense"):
        assert said in text


def test_biases_may_stand_at_the_maps_of_a_tuner_that_leaves_them_alone():
    site = {"1/attn_v": {}}
    tuner = PartSpec("c3a", {"sites": {"1/attn_v": {"block": 4}}})
    manifest = Manifest("adapter", builders.requires("bert"), (tuner, PartSpec("biases", {"sites": site})))
    assert set(expected(manifest, PROFILE)) == {"1/attn_v/kernel", "1/attn_v/bias"}
    adapter = builders.folded(manifest)
    assert [block.method for block in adapter.blocks[Address(1, "attn_v")]] == ["delta"]
    for first in (PARTS["ia3"], tuner):
        parts = (PartSpec("biases", {"sites": site}), first) if first is tuner else (first, manifest.parts[1])
        with pytest.raises(Misfit, match=r"both act at 1/attn_v"):
            expected(replace(manifest, parts=parts), PROFILE)


def test_what_a_tuner_makes_of_a_bias_it_makes_of_the_adapters_own():
    """GLoRA's D scales the bias that it finds: b' + D b' in the place of b."""
    said = {"rank": 1, "weights": "none", "coupling": "none", "biases": "constant"}
    parts = (PartSpec("glora", {"sites": {"0/attn_q": said}}), PartSpec("biases", {"sites": {"0/attn_q": {}}}))
    package = builders.package("bert", list(parts), seed=3)
    zeros = {name: torch.zeros_like(t) if name.endswith(".zeros") else t for name, t in package.tensors.items()}
    backbone, address = builders.backbone("bert"), Address(0, "attn_q")
    adapter = fold(replace(package, tensors=zeros), PROFILE, torch.float32, backbone.base_maps)
    own, frozen = zeros["0/attn_q/bias"], backbone.base_maps(address).bias
    (block,) = adapter.blocks[address]
    start = block.spans["shift"].offset
    want = own * (1 + zeros["0/attn_q/D.X"]) + zeros["0/attn_q/E.X"] - frozen
    assert torch.allclose(adapter.flat[start : start + len(own)], want, atol=1e-5)


@pytest.mark.parametrize("change", [{}, {"layers": 2}, {"bias": True}, {"vocabulary": 5}, {"type": "tagging"}])
def test_a_tied_head_is_the_table_of_words(change):
    geometry = builders.profile("gpt2").geometry
    head = HeadSpec(
        "causal_lm",
        1,
        None,
        False,
        "tokens",
        (),
        "next_token",
        vocabulary=geometry.vocabulary,
        width=geometry.embedding_size,
        tied=True,
    )
    more = {"vocabulary": None, "width": None, "labels": ("a", "b"), "problem_type": "single_label"}
    changed = replace(head, **change, **(more if "type" in change else {}))
    manifest = Manifest("head", builders.requires("gpt2"), head=changed)
    if not change:
        assert set(expected(manifest, builders.profile("gpt2"))) == {"head/0/weight"}
        return
    with pytest.raises(Misfit, match=r"manifest\.head\.tied belongs to a head of one layer"):
        expected(manifest, builders.profile("gpt2"))


def test_two_parts_may_not_store_one_tensor():
    manifest = Manifest("adapter", builders.requires("bert"), (PARTS["seq_bn"], PARTS["seq_bn"]))
    with pytest.raises(Misfit, match="two parts store"):
        expected(manifest, PROFILE)


def test_kinds_that_do_not_run_yet_and_vocabularies_of_another_width_are_refused():
    with pytest.raises(Misfit, match="fusion"):
        expected(Manifest("fusion", builders.requires("bert"), children=("a",)), PROFILE)
    spec = EmbeddingSpec(10, builders.HIDDEN + 1, False)
    with pytest.raises(Misfit, match="33 wide"):
        expected(Manifest("embedding", builders.requires("bert"), embedding=spec), PROFILE)


def test_a_union_keeps_every_part_at_its_address():
    parts = [PARTS["seq_bn"], PARTS["lora_qv"], PARTS["invertible"]]
    folded = builders.adapter("bert", parts)
    assert [b.method for b in folded.blocks[Address(0, "ffn_junction")]] == ["bottleneck"]
    assert [b.method for b in folded.blocks[Address(0, "attn_q")]] == ["lora"]
    assert Address(None, "embed_out") in folded.blocks


def test_folding_casts_to_the_arenas_dtype():
    package = builders.package("bert", [PARTS["seq_bn"]], HEADS["two_layers"])
    folded = fold(package, PROFILE, torch.bfloat16)
    assert folded.flat.dtype == torch.bfloat16
    assert folded.nbytes == 2 * folded.flat.numel()
    assert set(folded.head_spans) == {"0.weight", "0.bias", "1.weight", "1.bias"}


def test_two_methods_at_one_site_have_no_order_and_are_refused():
    manifest = Manifest("adapter", builders.requires("bert"), (PARTS["lora_qv"], PARTS["ia3"]))
    with pytest.raises(Misfit, match=r"lora and ia3 both act at 0/attn_v"):
        expected(manifest, PROFILE)
    both = Manifest("adapter", builders.requires("bert"), (PARTS["invertible"], PARTS["prompt"]))
    assert expected(both, PROFILE)  # on embeddings there is an order


@pytest.mark.parametrize(
    ("family", "route", "part", "reason"),
    [
        ("albert", (0, 1), "lora_qv", "layers of albert can not be replicated"),
        ("modernbert", (0, 1), "lora_qv", "layers of modernbert can not be replicated"),
        ("bert", (0, 5, 9), "lora_qv", "the route visits layer 9; the backbone has 0 to 1"),
        ("bert", (0,) * 17, "lora_qv", "a route of 17 layers; 1 to 16 can be run"),
        ("bert", (), "lora_qv", "a route of 0 layers"),
        ("bert", (0, 0, 1), "seq_bn", "bottleneck can not act on replicated layers"),
    ],
)
def test_a_route_that_the_backbone_can_not_run_is_refused(family, route, part, reason):
    manifest = Manifest("adapter", builders.requires(family), (PARTS[part],), route=route)
    with pytest.raises(Misfit, match=reason):
        expected(manifest, builders.profile(family))


def test_the_places_of_a_route_are_the_layers_of_its_adapter():
    site = {"rank": 2, "scaling": 1.0}
    part = PartSpec("lora", {"sites": {"3/attn_q": site}})
    manifest = Manifest("adapter", builders.requires("bert"), (part,), route=(0, 1, 1, 0))
    assert "3/attn_q/lora_A" in expected(manifest, builders.profile("bert"))
    with pytest.raises(Misfit):
        expected(replace(manifest, route=(0, 1, 1)), builders.profile("bert"))
    with pytest.raises(Misfit, match="'head' has no route"):
        expected(
            Manifest("head", builders.requires("bert"), head=HEADS["two_layers"], route=(0,)), builders.profile("bert")
        )


@pytest.mark.parametrize(
    ("family", "sort", "pooling", "reason"),
    [
        ("t5", "tagging", "encoder_tokens", None),
        ("t5", "tagging", "tokens", "an encoder-decoder has no tagging head that pools 'tokens'"),
        ("t5", "question_answering", "encoder_tokens", "has no question_answering head that pools 'encoder_tokens'"),
        ("bert", "tagging", "encoder_tokens", "a tagging head that pools 'encoder_tokens' needs an encoder-decoder"),
    ],
)
def test_heads_over_an_encoders_tokens_are_those_that_tag_an_encoder_decoders(family, sort, pooling, reason):
    head = HeadSpec(sort, 1, None, True, pooling, ("a", "b"), "token" if sort == "tagging" else "span")
    manifest = Manifest("head", builders.requires(family), head=head)
    if reason is None:
        assert set(expected(manifest, builders.profile(family))) == {"head/0/weight", "head/0/bias"}
        return
    with pytest.raises(Misfit, match=reason):
        expected(manifest, builders.profile(family))
