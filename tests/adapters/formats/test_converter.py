import json
import tempfile

import pytest
import torch

from adapters.errors import InvalidPackage, UnsafeFile
from adapters.formats import adapterhub, converter, recognise
from tests.adapters.formats import folders
from tests.adapters.formats.folders import H, profile, tensors


class Payload:
    """A pickle that would run code: it opens a file for writing."""

    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return (open, (str(self.trace), "w"))


def pickled(folder, name="pytorch_adapter.bin", held=None):
    folder.mkdir(exist_ok=True)
    (folder / "adapter_config.json").write_text(json.dumps(folders.saved(folders.seq_bn())))
    torch.save(tensors(folders.seq_bn_keys()) if held is None else held, folder / name)
    return folder


def test_a_pickled_folder_reads_after_conversion_as_its_safetensors_twin(tmp_path):
    folder = pickled(tmp_path / "bin")
    with pytest.raises(UnsafeFile, match="chorus convert"):
        recognise.read(folder, profile())
    assert converter.needs_conversion(folder)
    made = converter.convert(folder, tmp_path / "out")
    assert not converter.needs_conversion(made)
    twin = folders.adapterhub_folder(tmp_path / "twin", folders.seq_bn(), folders.seq_bn_keys())
    one, two = recognise.read(made, profile()), recognise.read(twin, profile())
    assert one.manifest == two.manifest
    assert all(torch.equal(tensor, two.tensors[name]) for name, tensor in one.tensors.items())
    assert not list(made.glob("*.bin"))


def test_an_embedding_keeps_its_tokenizer_and_takes_no_pickle_along(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    folder = tmp_path / "emb"
    (folder / "tokenizer").mkdir(parents=True)
    (folder / "tokenizer" / "tokenizer.json").write_bytes(folders.tokenizer_json())
    (folder / "training_args.bin").write_bytes(b"PK")
    torch.save(torch.nn.Parameter(torch.ones(3, H)), folder / "embedding.pt")
    made = converter.convert(folder)
    package = adapterhub.read(made, profile())
    assert package.manifest.embedding.tokenizer
    assert {path.name for path in made.iterdir()} == {"embedding.safetensors", "tokenizer"}


def test_a_pickle_that_would_run_code_is_refused_and_does_not_run(tmp_path):
    folder = pickled(tmp_path / "bin", held={"x": Payload(tmp_path / "trace")})
    with pytest.raises(UnsafeFile, match="was not converted"):
        converter.convert(folder, tmp_path / "out")
    assert not (tmp_path / "trace").exists()
    assert not (tmp_path / "out" / "adapter.safetensors").exists()


def test_a_conversion_that_fails_leaves_no_temporary_folder(tmp_path, monkeypatch):
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    with pytest.raises(UnsafeFile):
        converter.convert(pickled(tmp_path / "bin", held={"x": Payload(tmp_path / "trace")}))
    assert not list((tmp_path / "tmp").iterdir())


def test_limits_end_the_conversion(tmp_path):
    folder = pickled(tmp_path / "bin")
    with pytest.raises(UnsafeFile, match=r"within 0\.01 s"):
        converter.convert(folder, tmp_path / "slow", timeout_s=0.01)
    with pytest.raises(UnsafeFile, match="not converted"):
        converter.convert(folder, tmp_path / "small", memory_bytes=1 << 20)


def test_a_folder_without_weights_is_refused(tmp_path):
    with pytest.raises(InvalidPackage, match="no weights"):
        converter.convert(tmp_path)
