import json
import os
import subprocess
import tempfile
from pathlib import Path

import pytest
import torch

from adapters.errors import InvalidPackage, UnsafeFile
from adapters.formats import converter, recognise
from adapters.formats.adapterhub import folder as adapterhub
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
    # A file of torch's old format goes through torch, which takes more than this to load.
    torch.save({"x": torch.ones(1)}, folder / "pytorch_adapter.bin", _use_new_zipfile_serialization=False)
    with pytest.raises(UnsafeFile, match="not converted"):
        converter.convert(folder, tmp_path / "small", memory_bytes=1 << 20)


def test_a_folder_without_weights_is_refused(tmp_path):
    with pytest.raises(InvalidPackage, match="no weights"):
        converter.convert(tmp_path)


def test_every_folder_of_a_setup_or_a_shelf_is_converted_in_one_call(tmp_path, monkeypatch):
    root = tmp_path / "setup"
    root.mkdir()
    for name in ("a", "b"):
        pickled(root / name)
    (root / "a,b").mkdir()
    (root / "a,b" / "adapter_fusion_config.json").write_text("{}")
    torch.save({"x": torch.ones(1)}, root / "a,b" / "pytorch_model_adapter_fusion.bin")
    (root / "adapter_setup.json").write_text("{}")
    calls = []
    run = subprocess.run
    monkeypatch.setattr(converter.subprocess, "run", lambda *args, **kw: calls.append(args) or run(*args, **kw))
    assert converter.needs_conversion(root)
    made = converter.convert(root, tmp_path / "out")
    assert len(calls) == 1
    assert {path.relative_to(made).as_posix() for path in made.rglob("*") if path.is_file()} == {
        "adapter_setup.json",
        "a/adapter_config.json",
        "a/adapter.safetensors",
        "b/adapter_config.json",
        "b/adapter.safetensors",
        "a,b/adapter_fusion_config.json",
        "a,b/model_adapter_fusion.safetensors",
    }
    assert not converter.needs_conversion(made)


def test_folders_below_an_adapter_are_none_of_its_business(tmp_path):
    folder = pickled(tmp_path / "bin")
    pickled(folder / "checkpoint-500")
    (folder / "checkpoint-500" / "pytorch_adapter.bin").write_bytes(b"broken")
    made = converter.convert(folder, tmp_path / "out")
    assert not (made / "checkpoint-500").exists()


def test_links_out_of_a_shelf_are_not_followed(tmp_path):
    (tmp_path / "shelf").mkdir()
    (tmp_path / "shelf" / "elsewhere").symlink_to(pickled(tmp_path / "bin"))
    assert not converter.needs_conversion(tmp_path / "shelf")


def test_too_many_folders_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(converter, "MAX_FOLDERS", 2)
    for name in "abc":
        (tmp_path / name).mkdir()
    with pytest.raises(InvalidPackage, match="more than 2 folders"):
        converter.convert(tmp_path)


@pytest.mark.parametrize("how", [{}, {"_use_new_zipfile_serialization": False}])
def test_a_payload_beside_good_tensors_is_refused_whichever_way_it_was_saved(tmp_path, how):
    folder = pickled(tmp_path / "bin")
    held = tensors(folders.seq_bn_keys()) | {"x": Payload(tmp_path / "trace")}
    torch.save(held, folder / "pytorch_adapter.bin", **how)
    with pytest.raises(UnsafeFile, match=r"pytorch_adapter\.bin was not converted"):
        converter.convert(folder, tmp_path / "out")
    assert not (tmp_path / "trace").exists()
    assert not (tmp_path / "out" / "adapter.safetensors").exists()


def link(path):
    path.symlink_to("/etc/hostname")


@pytest.mark.parametrize(
    ("place", "make"),
    [
        ("leak.json", link),
        ("model_head.safetensors", link),
        ("folder.json", Path.mkdir),
        ("pipe.json", os.mkfifo),
        ("tokenizer", lambda path: path.symlink_to("/etc")),
        ("tokenizer", Path.touch),
        ("tokenizer/leak.txt", link),
        ("tokenizer/pipe", os.mkfifo),
        ("tokenizer/inner", lambda path: path.symlink_to("/etc")),
    ],
)
def test_only_plain_files_are_copied_and_any_other_entry_is_named(tmp_path, monkeypatch, place, make):
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    folder = pickled(tmp_path / "bin")
    if "/" in place:
        (folder / "tokenizer").mkdir()
    make(folder / place)
    with pytest.raises(UnsafeFile, match=rf"{Path(place).name} is no plain"):
        converter.convert(folder)
    assert not list((tmp_path / "tmp").iterdir())


def test_folders_of_a_tokenizer_are_copied_but_not_without_end(tmp_path):
    folder = pickled(tmp_path / "bin")
    (folder / "tokenizer" / "a" / "b").mkdir(parents=True)
    (folder / "tokenizer" / "a" / "b" / "vocab.txt").write_text("x")
    made = converter.convert(folder, tmp_path / "out")
    assert (made / "tokenizer" / "a" / "b" / "vocab.txt").read_text() == "x"
    (folder / "tokenizer" / "a" / "b" / "c" / "d" / "e").mkdir(parents=True)
    with pytest.raises(UnsafeFile, match="e is no plain folder"):
        converter.convert(folder, tmp_path / "again")
