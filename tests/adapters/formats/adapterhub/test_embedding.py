import json

import pytest
import torch

from adapters.errors import Misfit
from adapters.formats import converter
from adapters.formats.adapterhub import folder as adapterhub
from adapters.formats.check import check
from tests.adapters.formats import folders
from tests.adapters.formats.adapterhub.test_folder import assert_same
from tests.adapters.formats.folders import H, profile, tensors


def test_an_embedding_carries_its_tokenizer_s_bytes(tmp_path):
    folders.write(tmp_path / "in", "embedding.safetensors", None, None, tensors({"embedding": (3, H)}))
    package = adapterhub.read(tmp_path / "in", profile())
    assert not package.manifest.embedding.tokenizer
    (tmp_path / "in" / "tokenizer").mkdir()
    with pytest.raises(Misfit, match="fast tokenizer"):
        adapterhub.read(tmp_path / "in", profile())
    (tmp_path / "in" / "tokenizer" / "tokenizer.json").write_bytes(folders.tokenizer_json())
    package = adapterhub.read(tmp_path / "in", profile())
    check(package, profile())
    adapterhub.write(package, tmp_path / "out")
    assert (tmp_path / "out" / "tokenizer" / "tokenizer.json").read_bytes() == folders.tokenizer_json()
    assert_same(package, adapterhub.read(tmp_path / "out", profile()))
    settings = json.loads((tmp_path / "out" / "tokenizer" / "tokenizer_config.json").read_text())
    assert settings.pop("tokenizer_class") == "PreTrainedTokenizerFast"
    special = {token["content"] for token in json.loads(folders.tokenizer_json())["added_tokens"] if token["special"]}
    assert set(settings.values()) <= special


def test_the_matrix_is_written_in_the_form_that_adapterhub_loads(tmp_path):
    held = tensors({"embedding": (3, H)})
    folders.write(tmp_path / "in", "embedding.safetensors", None, None, held)
    adapterhub.write(adapterhub.read(tmp_path / "in", profile()), tmp_path / "out")
    loaded = torch.load(tmp_path / "out" / "embedding.pt", weights_only=True)
    assert isinstance(loaded, torch.nn.Parameter)
    assert torch.equal(loaded.detach(), held["embedding"])
    assert not converter.needs_conversion(tmp_path / "out")


def test_an_embedding_of_two_tensors_is_refused(tmp_path):
    folders.write(tmp_path, "embedding.safetensors", None, None, tensors({"a": (3, H), "b": (3, H)}))
    with pytest.raises(Misfit, match="one matrix"):
        adapterhub.read(tmp_path, profile())
