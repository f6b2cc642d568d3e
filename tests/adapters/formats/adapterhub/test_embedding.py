import json

import pytest
import torch

from adapters.errors import Misfit
from adapters.formats import converter
from adapters.formats.adapterhub import embedding
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
    assert settings == embedding.roles(folders.tokenizer_json())
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


def matrix(folder, tokenizer=None):
    folders.write(folder, "embedding.safetensors", None, None, tensors({"embedding": (3, H)}))
    if tokenizer is not None:
        (folder / "tokenizer").mkdir()
        (folder / "tokenizer" / "tokenizer.json").write_bytes(tokenizer)
    return folder


def test_a_matrix_without_a_tokenizer_leaves_none_of_an_older_save(tmp_path):
    old = matrix(tmp_path / "old", folders.tokenizer_json())
    for name in ("tokenizer_config.json", "vocab.txt", "spiece.model"):
        (old / "tokenizer" / name).write_text("{}")
    bare = adapterhub.read(matrix(tmp_path / "bare"), profile())
    adapterhub.write(bare, old)
    assert not (old / "tokenizer").exists()
    assert adapterhub.read(old, profile()).manifest == bare.manifest


def test_another_tokenizer_is_all_that_is_left_of_two(tmp_path):
    old = matrix(tmp_path / "old", folders.tokenizer_json())
    (old / "tokenizer" / "vocab.txt").write_text("of another class")
    other = adapterhub.read(matrix(tmp_path / "new", folders.tokenizer_json(("[UNK]", "c"))), profile())
    adapterhub.write(other, old)
    assert {path.name for path in (old / "tokenizer").iterdir()} == {"tokenizer.json", "tokenizer_config.json"}
    assert_same(other, adapterhub.read(old, profile()))


@pytest.mark.parametrize("strange", ["train.py", "data/words.txt"])
def test_a_folder_that_is_more_than_a_tokenizer_is_left_alone(tmp_path, strange):
    old = matrix(tmp_path / "old", folders.tokenizer_json())
    place = old / "tokenizer" / strange
    place.parent.mkdir(exist_ok=True)
    place.write_text("mine")
    before = (old / "embedding.safetensors").read_bytes()
    with pytest.raises(Misfit, match="of no tokenizer: save the embedding in another folder"):
        adapterhub.write(adapterhub.read(matrix(tmp_path / "bare"), profile()), old)
    assert place.read_text() == "mine"
    assert (old / "tokenizer" / "tokenizer.json").is_file()
    assert (old / "embedding.safetensors").read_bytes() == before


def test_a_tokenizer_that_no_embedding_came_with_is_left_alone(tmp_path):
    (tmp_path / "project" / "tokenizer").mkdir(parents=True)
    (tmp_path / "project" / "tokenizer" / "tokenizer.json").write_bytes(folders.tokenizer_json())
    with pytest.raises(Misfit, match="no embedding came with"):
        adapterhub.write(adapterhub.read(matrix(tmp_path / "bare"), profile()), tmp_path / "project")
    assert (tmp_path / "project" / "tokenizer" / "tokenizer.json").is_file()
    assert not (tmp_path / "project" / "embedding.pt").exists()


def test_special_tokens_have_the_roles_that_their_names_say():
    added = [{"id": i, "content": name, "special": i != 2} for i, name in enumerate(["<s>", "<pad>", "</s>", "[MASK]"])]
    data = folders.tokenizer_json(added_tokens=added)
    assert embedding.roles(data) == {"cls_token": "<s>", "mask_token": "[MASK]", "pad_token": "<pad>"}
    assert embedding.roles(folders.tokenizer_json()) == {}
