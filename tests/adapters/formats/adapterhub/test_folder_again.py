"""Saving into a folder that holds something already: what is replaced goes whole, and nothing else."""

import json
from dataclasses import replace

import pytest

from adapters.errors import Misfit
from adapters.formats.adapterhub import folder as adapterhub
from adapters.manifest import Provenance
from adapters.weights import Package
from tests.adapters.formats import folders
from tests.adapters.formats.adapterhub import by_hand
from tests.adapters.formats.folders import profile, seq_bn_folder, tensors

HEAD_FILES = ("head_config.json", "model_head.safetensors")


def without_head(package):
    kept = {name: tensor for name, tensor in package.tensors.items() if not name.startswith("head/")}
    return Package(replace(package.manifest, head=None), kept)


def head_alone(folder, name="a"):
    held = tensors(folders.head_keys(name))
    folders.write(
        folder, "model_head.safetensors", "head_config.json", folders.saved(folders.head_config(), name=name), held
    )
    return adapterhub.read(folder, profile())


def files(folder):
    return {path.name for path in folder.iterdir()}


def test_an_older_save_s_pickles_go_with_it(tmp_path):
    folder = seq_bn_folder(tmp_path / "a")
    for name in ("pytorch_adapter.bin", "pytorch_model_head.bin", "pytorch_model_adapter_fusion.bin"):
        (folder / name).write_bytes(b"old")
    adapterhub.write(adapterhub.read(folder, profile()), folder)
    pickles = {name for name in files(folder) if name.endswith(".bin")}
    assert pickles == {"pytorch_model_adapter_fusion.bin"}  # of a fusion, which is not what is written


def test_an_adapter_that_is_saved_without_a_head_leaves_none_of_an_older_save(tmp_path):
    folder = seq_bn_folder(tmp_path / "a")
    (folder / "pytorch_model_head.bin").write_bytes(b"old")
    adapterhub.write(without_head(adapterhub.read(folder, profile())), folder)
    assert files(folder) == {"adapter_config.json", "adapter.safetensors"}


def test_the_head_of_the_adapter_that_was_there_goes_with_it(tmp_path):
    folder = seq_bn_folder(tmp_path / "a")
    package = without_head(adapterhub.read(folder, profile()))
    ours = replace(package.manifest, source={}, provenance=Provenance("chorus", "1"))
    adapterhub.write(Package(ours, package.tensors), folder, name="b")
    assert json.loads((folder / "adapter_config.json").read_text())["name"] == "b"
    assert adapterhub.read(folder, profile()).manifest.head is None


def test_the_head_of_a_class_has_no_name_and_goes_with_its_adapter(tmp_path):
    folder = seq_bn_folder(tmp_path / "a")
    package = without_head(adapterhub.read(folder, profile()))
    saved = json.loads((folder / "head_config.json").read_text())
    (folder / "head_config.json").write_text(json.dumps(saved | {"name": None, "config": None}))
    adapterhub.write(package, folder)
    assert not files(folder) & set(HEAD_FILES)


@pytest.mark.parametrize("torn", ["adapter_config.json", "head_config.json"])
def test_a_torn_save_is_replaced(torn, tmp_path):
    folder = seq_bn_folder(tmp_path / "a")
    package = without_head(adapterhub.read(folder, profile()))
    (folder / torn).write_text("{")
    adapterhub.write(package, folder)
    assert adapterhub.read(folder, profile()).manifest.head is None


def test_a_head_that_was_put_there_for_itself_stays(tmp_path):
    package = without_head(adapterhub.read(seq_bn_folder(tmp_path / "a"), profile()))
    for name in ("own", "mine"):
        head_alone(tmp_path / "there", name)
        adapterhub.write(package, tmp_path / "there")
        assert set(HEAD_FILES) <= files(tmp_path / "there")
        assert adapterhub.read(tmp_path / "there", profile()).manifest.head.name == name


def test_a_class_s_head_alone_stays_where_no_adapter_was(tmp_path):
    package = without_head(adapterhub.read(seq_bn_folder(tmp_path / "a"), profile()))
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "head_config.json").write_text('{"name": null}')
    adapterhub.write(package, tmp_path / "there")
    assert (tmp_path / "there" / "head_config.json").is_file()


def test_a_fusion_replaces_a_fusion_and_its_head_and_leaves_an_adapter(tmp_path):
    folder = seq_bn_folder(tmp_path / "a")
    saved = folders.saved(by_hand.fusion_config(), name="x,y", adapter_names=["x", "y"])
    held = tensors(by_hand.fusion(by_hand.FAMILIES["bert"]))
    folders.write(tmp_path / "f", adapterhub.FUSION, "adapter_fusion_config.json", saved, held)
    fusion = adapterhub.read(tmp_path / "f", profile())
    adapterhub.write(fusion, folder)
    assert {"adapter_config.json", "adapter.safetensors", *HEAD_FILES} < files(folder)
    head_alone(tmp_path / "f", "x,y")
    adapterhub.write(fusion, tmp_path / "f")
    assert files(tmp_path / "f") == {"adapter_fusion_config.json", adapterhub.FUSION}


def test_what_can_not_be_written_leaves_the_older_save_as_it_was(tmp_path):
    folder = seq_bn_folder(tmp_path / "a")
    package = adapterhub.read(folder, profile())
    head = replace(package.manifest.head, type="multiple_choice", problem_type="choice", labels=())
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(Misfit, match="fixed number of choices"):
        adapterhub.write(Package(replace(package.manifest, head=head), package.tensors), folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_an_interface_file_goes_with_the_adapter_that_needed_it(tmp_path):
    package = adapterhub.read(seq_bn_folder(tmp_path / "a"), profile())
    (tmp_path / "a" / "adapter_interface.json").write_text("{}")
    adapterhub.write(package, tmp_path / "a")
    assert not (tmp_path / "a" / "adapter_interface.json").exists()
