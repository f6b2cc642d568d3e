from pathlib import Path

import pytest
import torch

from adapters.door import sources
from adapters.door.sources import model_folder, readable
from adapters.errors import InvalidName
from adapters.formats import files
from tests.adapters import builders


def test_a_folder_that_is_there_is_taken_as_it_is(tmp_path):
    assert model_folder(builders.folder("bert")) == builders.folder("bert")
    with readable(tmp_path) as source:
        assert source == tmp_path


def test_what_is_no_folder_is_fetched_from_the_hub(monkeypatch, tmp_path):
    asked = []

    def fetch(repository: str, **more) -> str:
        asked.append((repository, more["revision"]))
        return str(tmp_path)

    monkeypatch.setattr(sources, "snapshot_download", fetch)
    monkeypatch.chdir(tmp_path)
    assert model_folder("bert-base-uncased") == tmp_path
    with readable("hf:AdapterHub/sst-2@main") as source:
        assert source == tmp_path
    assert asked == [("bert-base-uncased", None), ("AdapterHub/sst-2", "main")]


@pytest.mark.parametrize("name", [Path("nowhere"), "a/b/c", "./nowhere", "/nowhere"])
def test_paths_are_never_asked_of_the_hub(name, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sources, "snapshot_download", None)
    with pytest.raises(FileNotFoundError, match="there is no"):
        model_folder(name)


def test_a_hub_that_can_not_answer_is_told_in_one_sentence(monkeypatch, tmp_path):
    def fetch(*_, **__):
        raise OSError("no route")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sources, "snapshot_download", fetch)
    with pytest.raises(FileNotFoundError, match=r"no folder org/name, and no repository of that name: no route"):
        model_folder("org/name")


def test_pickles_are_converted_for_as_long_as_they_are_read(tmp_path):
    torch.save({"a": torch.ones(2)}, tmp_path / "pytorch_adapter.bin")
    files.write_json(tmp_path / "adapter_config.json", {"name": "a"})
    with readable(tmp_path) as source:
        assert source != tmp_path
        assert torch.equal(files.read_tensors(source, "adapter.safetensors")["a"], torch.ones(2))
    assert not source.exists()


def test_a_name_has_its_place_below_a_folder(tmp_path):
    assert sources.below(tmp_path, "sentiment/sst-2@ukp") == tmp_path / "sentiment" / "sst-2@ukp"
    assert sources.below(tmp_path, "..a") == tmp_path / "..a"
    for name in ("", ".", "..", "../a", "a/../../b", "/a", "a\0b"):
        with pytest.raises(InvalidName, match="names no place inside"):
            sources.below(tmp_path, name)


def test_what_a_reader_says_is_a_warning_where_the_verb_is_called():
    def verb():
        sources.tell("folder", ["one", "two"])

    with pytest.warns(UserWarning, match="folder: ") as caught:
        verb()
    assert [str(warning.message) for warning in caught] == ["folder: one", "folder: two"]
    assert {warning.filename for warning in caught} == {__file__}
