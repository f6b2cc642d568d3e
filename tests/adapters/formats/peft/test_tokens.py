from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from adapters.errors import Misfit
from adapters.formats.check import check
from adapters.formats.peft import folder as peft
from adapters.manifest import PartSpec
from adapters.weights import Package
from tests.adapters.formats.folders import H, peft_config, peft_folder, peft_lora_keys, profile
from tests.adapters.formats.peft.reading import FEATURE, QV, assert_same, reasons
from tests.adapters.formats.peft.test_prompts import unlabelled

TABLE = "bert.embeddings.word_embeddings"
TOKENS = [4, 1, 7]
ALONE = peft_config(
    peft_type="TRAINABLE_TOKENS", r=None, lora_alpha=None, target_modules=["word_embeddings"], token_indices=TOKENS
)
ROWS = {f"base_model.model.{TABLE}.trainable_tokens_delta": (3, H)}
BESIDE = {f"base_model.model.{TABLE}.token_adapter.trainable_tokens_delta": (3, H)}


def both_ways(package, tmp_path):
    check(package, profile())
    peft.write(package, tmp_path / "same")
    assert_same(package, peft.read(tmp_path / "same", profile()))
    peft.write(unlabelled(package), tmp_path / "new")
    assert peft.read(tmp_path / "new", profile()).manifest.parts == package.manifest.parts


def test_rows_alone_are_a_tuner(tmp_path):
    package = peft.read(peft_folder(tmp_path / "in", ALONE | FEATURE, ROWS), profile())
    assert package.manifest.parts == (PartSpec("word_rows", {"tokens": TOKENS}),)
    both_ways(package, tmp_path)


@pytest.mark.parametrize("said", [TOKENS, {"word_embeddings": TOKENS}, {TABLE: TOKENS}])
def test_rows_beside_a_lora_are_a_part_of_their_own(tmp_path, said):
    config = peft_config(trainable_token_indices=said, **FEATURE)
    package = peft.read(peft_folder(tmp_path / "in", config, peft_lora_keys(QV) | BESIDE), profile())
    assert package.manifest.parts[1] == PartSpec("word_rows", {"tokens": TOKENS})
    both_ways(package, tmp_path)


def test_rows_and_configuration_must_agree(tmp_path):
    lacking = peft_folder(tmp_path / "a", ALONE | FEATURE, peft_lora_keys(QV))
    assert any(f"lacks {TABLE}.trainable_tokens_delta" in one for one in reasons(lacking))
    astray = peft_folder(tmp_path / "b", ALONE | FEATURE | {"target_modules": ["position_embeddings"]}, ROWS)
    assert any("target_modules does not name it" in one for one in reasons(astray))
    unnamed = peft_folder(tmp_path / "c", peft_config(**FEATURE), peft_lora_keys(QV) | BESIDE)
    assert any("trainable_token_indices" in one for one in reasons(unnamed))


def test_a_whole_table_is_no_tuner_of_peft(tmp_path):
    package = peft.read(peft_folder(tmp_path / "in", ALONE | FEATURE, ROWS), profile())
    whole = replace(unlabelled(package).manifest, parts=(PartSpec("word_rows", {"tokens": None}),))
    with pytest.raises(Misfit, match="not all of them"):
        peft.write(Package(whole, package.tensors), tmp_path / "out")


@pytest.mark.parametrize("stack", ["encoder", "decoder"])
def test_both_stacks_of_an_encoder_decoder_have_copies_of_the_rows(tmp_path, stack):
    host = profile("t5")
    host = replace(host, geometry=replace(host.geometry, encoder_layers=1))
    keys = {f"base_model.model.{path}.trainable_tokens_delta": (3, H) for path in ("shared", f"{stack}.embed_tokens")}
    config = ALONE | FEATURE | {"target_modules": ["shared"]}
    folder = peft_folder(tmp_path / "in", config, keys)
    assert any("differs from shared" in one for one in reasons(folder, host))
    held = load_file(folder / "adapter_model.safetensors")
    save_file({k: held[min(keys)].clone() for k in keys}, folder / "adapter_model.safetensors")
    package = peft.read(folder, host)
    assert package.manifest.parts == (PartSpec("word_rows", {"tokens": TOKENS}),)
    generating = peft_folder(tmp_path / "lm", config | {"task_type": "SEQ_2_SEQ_LM"}, {})
    save_file({k: held[min(keys)].clone() for k in keys}, generating / "adapter_model.safetensors")
    assert peft.read(generating, host).manifest.parts == package.manifest.parts


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_a_tied_head_of_the_backbone_reads_the_rows_too_and_one_of_the_folder_is_refused(tmp_path, family):
    words, head = ("transformer.wte", "lm_head") if family == "gpt2" else ("model.embed_tokens", "lm_head")
    rows = {f"base_model.model.{words}.trainable_tokens_delta": (3, H)}
    config = ALONE | {"target_modules": [words.rpartition(".")[2]], "task_type": "CAUSAL_LM"}
    untied = profile(family)
    tied = replace(untied, geometry=replace(untied.geometry, tied=True))
    for i, host in enumerate((tied, untied)):
        assert peft.read(peft_folder(tmp_path / str(i), config, rows), host).manifest.parts
    saved = rows | {f"base_model.model.{head}.weight": (tied.geometry.vocabulary, H)}
    folder = peft_folder(tmp_path / "headed", config | {"modules_to_save": [head]}, saved)
    assert any("beside a saved head over the vocabulary" in one for one in reasons(folder, tied))
    assert peft.read(folder, untied).manifest.head.vocabulary == untied.geometry.vocabulary


@pytest.mark.parametrize("names", [("lora_embedding_A", "lora_embedding_B"), ("weight",)])
def test_what_peft_ties_to_a_whole_table_is_refused(tmp_path, names):
    untied = profile("llama")
    tied = replace(untied, geometry=replace(untied.geometry, tied=True))
    sizes = {"lora_embedding_A": (2, untied.geometry.vocabulary), "lora_embedding_B": (H, 2)}
    whole = (untied.geometry.vocabulary, H)
    words = {f"base_model.model.model.embed_tokens.{name}": sizes.get(name, whole) for name in names}
    keys = peft_lora_keys([f"model.layers.{i}.self_attn.q_proj" for i in range(untied.geometry.layers)]) | words
    targets = {"target_modules": ["q_proj", *(["embed_tokens"] if len(names) == 2 else [])]}
    saved = {"modules_to_save": ["embed_tokens"]} if names == ("weight",) else {}
    said = peft_config(r=2, ensure_weight_tying=True, **targets, **saved)
    folder = peft_folder(tmp_path / "lm", said | {"task_type": "CAUSAL_LM"}, keys)
    assert any("ensure_weight_tying lets what is learned of model.embed_tokens" in one for one in reasons(folder, tied))
    for task, host in (("CAUSAL_LM", untied), ("FEATURE_EXTRACTION", tied)):
        assert peft.read(peft_folder(tmp_path / task, said | {"task_type": task}, keys), host).manifest.parts


def test_whole_tables_of_both_stacks_are_read_and_written(tmp_path):
    host = profile("t5")
    host = replace(host, geometry=replace(host.geometry, encoder_layers=1))
    whole = (host.geometry.vocabulary, H)
    maps = [f"{stack}.block.0.layer.0.SelfAttention.q" for stack in ("encoder", "decoder")]
    tables = {f"base_model.model.{stack}.embed_tokens.weight": whole for stack in ("encoder", "decoder")}
    config = peft_config(target_modules=maps) | FEATURE | {"modules_to_save": ["embed_tokens"]}
    package = peft.read(peft_folder(tmp_path / "in", config, peft_lora_keys(maps) | tables), host)
    assert package.manifest.parts[1] == PartSpec("word_rows", {"tokens": None})
    assert not torch.equal(package.tensors["model/words/rows"], package.tensors["model/decoder_words/rows"])
    check(package, host)
    for name, kept in (("same", package), ("new", unlabelled(package))):
        peft.write(kept, tmp_path / name)
        again = peft.read(tmp_path / name, host)
        assert again.manifest.parts == package.manifest.parts
        assert all(torch.equal(tensor, again.tensors[key]) for key, tensor in package.tensors.items())
    alone = {key: shape for key, shape in (peft_lora_keys(maps[:1]) | tables).items() if "decoder" not in key}
    folder = peft_folder(tmp_path / "alone", config | {"target_modules": maps[:1]}, alone)
    assert any("a whole table of an encoder alone" in one for one in reasons(folder, host))
