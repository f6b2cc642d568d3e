import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM

from adapters.architectures.profile import read_profile
from adapters.errors import Misfit
from adapters.formats import language_head
from adapters.formats.check import check
from tests.adapters import builders


def saved(family, path, **settings):
    torch.manual_seed(5)
    config = AutoConfig.from_pretrained(builders.folder(family), **settings)
    model = AutoModelForCausalLM.from_config(config)
    model.save_pretrained(path)
    return model


@pytest.mark.parametrize(("family", "tied"), [("gpt2", True), ("llama", True), ("llama", False), ("qwen3", False)])
def test_the_head_is_that_of_the_model(family, tied, tmp_path):
    model = saved(family, tmp_path, tie_word_embeddings=tied)
    profile = read_profile(tmp_path)
    package = language_head.read(tmp_path, profile)
    check(package, profile)
    assert torch.equal(package.tensors["head/0/weight"], model.lm_head.weight)
    assert (package.manifest.head.type, package.manifest.head.bias) == ("causal_lm", False)
    assert package.manifest.head.tied == tied


def test_a_bare_checkpoint_has_a_head_where_its_words_are_tied_to_it():
    package = language_head.read(builders.folder("gpt2"), builders.profile("gpt2"))
    words = load_file(builders.folder("gpt2") / "model.safetensors")["wte.weight"]
    assert torch.equal(package.tensors["head/0/weight"], words)
    with pytest.raises(Misfit, match=r"holds no lm_head\.weight"):
        language_head.read(builders.folder("llama"), builders.profile("llama"))


def test_gpt2_ties_them_where_its_configuration_does_not_say(tmp_path):
    saved("gpt2", tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config.pop("tie_word_embeddings", None)
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert language_head.read(tmp_path, read_profile(tmp_path)).tensors["head/0/weight"].shape == (90, builders.HIDDEN)


def test_an_encoder_has_none():
    with pytest.raises(Misfit, match="no head over its vocabulary"):
        language_head.read(builders.folder("bert"), builders.profile("bert"))


@pytest.mark.parametrize("same", [True, False])
def test_a_head_that_a_tied_t5_stores_once_more_is_tied_where_it_is_the_table(tmp_path, same):
    for file in builders.folder("t5").iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    tensors = load_file(tmp_path / "model.safetensors")
    own = tensors["shared.weight"].clone() + (0 if same else 1)
    save_file(tensors | {"lm_head.weight": own}, tmp_path / "model.safetensors", {"format": "pt"})
    profile = read_profile(tmp_path)
    package = language_head.read(tmp_path, profile)
    assert torch.equal(package.tensors["head/0/weight"], own)
    assert package.manifest.head.tied is (same and profile.geometry.tied)
    assert profile.geometry.tied
