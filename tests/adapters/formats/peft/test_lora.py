from dataclasses import replace

import pytest

from adapters.errors import Misfit
from adapters.formats.check import check
from adapters.formats.peft import folder as peft
from adapters.manifest import Provenance
from adapters.weights import Package
from tests.adapters.formats.folders import CLASSIFIER, H, peft_config, peft_folder, peft_lora_keys, profile
from tests.adapters.formats.peft.reading import QV, assert_same, basic, reasons, sites
from tests.adapters.formats.peft.test_prompts import unlabelled


def test_ranks_and_alphas_by_pattern_and_rslora(tmp_path):
    keys = peft_lora_keys(QV[:1], rank=4) | peft_lora_keys(QV[1:], rank=2) | CLASSIFIER
    folder = basic(
        tmp_path, keys, rank_pattern={"layer.0.attention.self.query": 4}, alpha_pattern={"value": 3}, use_rslora=True
    )
    package = peft.read(folder, profile())
    assert sites(package)["0/attn_q"] == {"rank": 4, "scaling": 8.0, "bias": False}
    assert sites(package)["1/attn_q"]["scaling"] == pytest.approx(16 / 2**0.5)
    assert sites(package)["0/attn_v"]["scaling"] == pytest.approx(3 / 2**0.5)


def test_a_lora_bias_is_kept(tmp_path):
    keys = peft_lora_keys(QV) | CLASSIFIER | {f"base_model.model.{path}.lora_B.bias": (H,) for path in QV}
    package = peft.read(basic(tmp_path / "in", keys, lora_bias=True), profile())
    assert sites(package)["0/attn_q"]["bias"]
    check(package, profile())
    peft.write(package, tmp_path / "out")
    assert_same(package, peft.read(tmp_path / "out", profile()))
    assert any("lora_bias" in reason for reason in reasons(basic(tmp_path / "no", keys)))


def test_dora_is_read_with_its_flavour_and_round_trips(tmp_path):
    keys = peft_lora_keys(QV) | CLASSIFIER | {f"base_model.model.{path}.lora_magnitude_vector": (H,) for path in QV}
    package = peft.read(basic(tmp_path / "in", keys, use_dora=True), profile())
    assert sites(package)["1/attn_v"]["dora"] == "peft"
    check(package, profile())
    peft.write(package, tmp_path / "out")
    assert_same(package, peft.read(tmp_path / "out", profile()))
    assert any("use_dora is False" in reason for reason in reasons(basic(tmp_path / "no", keys)))


@pytest.mark.parametrize("start", ["pissa", "olora"])
def test_a_start_that_is_a_part_of_the_map_is_kept(tmp_path, start):
    package = peft.read(basic(tmp_path / "in", init_lora_weights=start), profile())
    assert sites(package)["0/attn_q"]["start"] == start
    check(package, profile())
    trained = Package(replace(package.manifest, provenance=Provenance("chorus", "1")), package.tensors)
    peft.write(trained, tmp_path / "out")
    assert peft.read(tmp_path / "out", profile()).manifest.parts == package.manifest.parts


def test_starts_that_differ_are_refused(tmp_path):
    package = peft.read(basic(tmp_path / "in", init_lora_weights="pissa"), profile())
    part = package.manifest.parts[0]
    mixed = {site: {**held, "start": "olora"} if site == "0/attn_q" else held for site, held in sites(package).items()}
    manifest = replace(package.manifest, parts=(replace(part, config={"sites": mixed}),))
    with pytest.raises(Misfit, match="starts all modules alike"):
        peft.write(Package(manifest, package.tensors), tmp_path / "out")


def test_the_table_of_word_vectors_is_one_more_map(tmp_path):
    table = "base_model.model.bert.embeddings.word_embeddings"
    keys = peft_lora_keys(QV) | CLASSIFIER
    keys |= {f"{table}.lora_embedding_A": (2, 20), f"{table}.lora_embedding_B": (H, 2)}
    targets = ["query", "value", "word_embeddings"]
    package = peft.read(basic(tmp_path / "in", keys, target_modules=targets), profile())
    assert sites(package)["model/words"] == {"rank": 2, "scaling": 8.0}
    check(package, profile())
    peft.write(package, tmp_path / "out")
    assert_same(package, peft.read(tmp_path / "out", profile()))
    missing = reasons(basic(tmp_path / "no", peft_lora_keys(QV) | CLASSIFIER, target_modules=targets))
    assert any("lacks bert.embeddings.word_embeddings" in reason for reason in missing)
    whole = keys | {f"{table}.base_layer.weight": (20, H)}
    package = peft.read(basic(tmp_path / "whole", whole, target_modules=targets), profile())
    assert sites(package)["model/words"]["base_table"] is True
    check(package, profile())
    peft.write(package, tmp_path / "again")
    assert_same(package, peft.read(tmp_path / "again", profile()))


def stacked(tmp_path, name, *modules, **config):
    """A folder for a small T5 with LoRAs behind its attentions and of more modules."""
    root, wide = "base_model.model.", profile("t5").geometry.vocabulary
    maps = ("encoder.block.0.layer.0.SelfAttention.o", "decoder.block.0.layer.0.SelfAttention.o")
    keys = peft_lora_keys([*maps, "decoder.block.0.layer.1.EncDecAttention.o"])
    for path in modules:
        keys |= {f"{root}{path}.lora_embedding_A": (2, wide), f"{root}{path}.lora_embedding_B": (H, 2)}
    said = {"lora_alpha": 4, "task_type": "SEQ_2_SEQ_LM", "modules_to_save": None, **config}
    return peft_folder(tmp_path / name, peft_config(**said), keys)


def test_the_stacks_of_an_encoder_decoder_adapt_words_apart_and_what_nothing_reads_counts_nothing(tmp_path):
    host = profile("t5")
    host = replace(host, geometry=replace(host.geometry, encoder_layers=1))
    stacks, maps = ["encoder.embed_tokens", "decoder.embed_tokens"], {"0/attn_out", "1/attn_out", "1/cross_out"}
    package = peft.read(stacked(tmp_path, "in", *stacks, target_modules=["o", "embed_tokens"]), host)
    assert {"model/words", "model/decoder_words", *maps} == set(sites(package))
    check(package, host)
    peft.write(package, tmp_path / "out")
    assert_same(package, peft.read(tmp_path / "out", host))
    unread = peft.read(stacked(tmp_path, "unread", "shared", target_modules=["o", "shared"]), host)
    assert set(sites(unread)) == maps
    with pytest.raises(Misfit, match=r"lacks decoder\.embed_tokens"):
        peft.read(stacked(tmp_path, "no", stacks[0], target_modules=["o", "embed_tokens"]), host)


def test_all_linear_names_no_table(tmp_path):
    dense = [f"bert.encoder.layer.{i}.{p}" for i in range(2) for p in ("attention.output.dense",)]
    keys = peft_lora_keys([*QV, *[q.replace("query", "key") for q in QV if "query" in q], *dense]) | CLASSIFIER
    found = reasons(basic(tmp_path, keys, target_modules="all-linear"))
    assert not any("word_embeddings" in reason for reason in found)


def test_the_weight_of_a_map_as_a_bare_parameter_is_its_lora(tmp_path):
    names = ["attention.self.query.weight", "attention.self.value.weight"]
    patterns = {r"layer\.0\.attention\.self\.query\.weight": 4}
    package = peft.read(
        basic(tmp_path / "in", target_modules=[], target_parameters=names, alpha_pattern=patterns), profile()
    )
    assert set(sites(package)) == {f"{layer}/attn_{part}" for layer in range(2) for part in "qv"}
    assert sites(package)["0/attn_q"]["scaling"] == 4 / sites(package)["0/attn_q"]["rank"]
    assert sites(package)["0/attn_q"] != sites(package)["1/attn_q"]
    peft.write(package, tmp_path / "out")
    assert_same(package, peft.read(tmp_path / "out", profile()))
    lacking = reasons(basic(tmp_path / "no", target_modules=[], target_parameters=[*names, "key.weight"]))
    assert any("lacks bert.encoder.layer.0.attention.self.key" in reason for reason in lacking)


def test_bare_parameters_of_turned_maps_are_refused(tmp_path):
    keys = peft_lora_keys(["h.0.mlp.c_fc"])
    config = peft_config(task_type=None, target_modules=[], modules_to_save=None, target_parameters=["c_fc.weight"])
    assert any("hold their weights turned" in r for r in reasons(peft_folder(tmp_path, config, keys), profile("gpt2")))


def test_an_invocation_is_read_and_written(tmp_path):
    host = profile("llama")
    paths = [f"model.layers.{i}.self_attn.q_proj" for i in range(host.geometry.layers)]
    said = peft_config(target_modules=["q_proj"], alora_invocation_tokens=[5, 9]) | {"task_type": "CAUSAL_LM"}
    package = peft.read(peft_folder(tmp_path / "in", said, peft_lora_keys(paths)), host)
    assert package.manifest.parts[0].config["invocation"] == [5, 9]
    check(package, host)
    for name, kept in (("same", package), ("new", unlabelled(package))):
        peft.write(kept, tmp_path / name)
        assert peft.read(tmp_path / name, host).manifest.parts == package.manifest.parts
    wrong = peft_folder(tmp_path / "wrong", said | {"alora_invocation_tokens": ["x"]}, peft_lora_keys(paths))
    assert any("must be a list of token ids" in one for one in reasons(wrong, host))
