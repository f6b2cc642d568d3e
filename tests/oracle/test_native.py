"""Adapters made here: each preset is written in the library's format, and its native package holds the same."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from adapters.architectures.profile import read_profile
from adapters.formats import native as packages
from adapters.formats import recognise
from adapters.methods.presets import PRESETS
from tests.oracle import native

DATA = Path(__file__).parents[1] / "conformance" / "data"


@pytest.fixture
def host(tmp_path):
    for stage in ("made", "written"):
        shutil.copytree(DATA / "backbones" / "bert-tiny", tmp_path / stage / "backbones" / "bert-tiny")
    shutil.copytree(DATA / "adapterhub" / "bert__seq_bn", tmp_path / "made" / "adapterhub" / "host")
    return tmp_path / "made" / "adapterhub" / "host"


def made(host, library="adapterhub", seed=1):
    root = host.parents[2]
    return root, *native.make(library, [host], root / "written", root / "ours", seed)


def test_every_preset_is_written_or_refused_with_a_reason(host):
    _, names, refused = made(host)
    assert len(names) + len(refused) == len(PRESETS)
    assert {name.rsplit("-", 1)[1] for name in refused} == {"direft"}
    assert all(outcome.reason for outcome in refused.values())


@pytest.mark.parametrize("library", ["adapterhub", "peft"])
def test_the_folder_holds_what_the_native_package_holds(host, library):
    root, names, _ = made(host, library)
    profile = read_profile(root / "written" / "backbones" / "bert-tiny")
    for name in names:
        folder = recognise.read(root / "written" / library / name / "adapters" / "a", profile)
        package = packages.read(root / "ours" / library / name / "package.safetensors")
        assert set(folder.tensors) == set(package.tensors), name
        assert all(torch.equal(folder.tensors[key], package.tensors[key]) for key in folder.tensors), name


def test_inputs_are_the_hosts_without_padding_and_no_output_is_there_before_the_library_gives_one(host):
    root, names, _ = made(host)
    for stage in ("written", "ours"):
        stored = native.load_file(root / stage / "adapterhub" / names[0] / "expected.safetensors")
        assert all(key.startswith("input.") for key in stored)
        assert bool(stored["input.attention_mask"].all())


def test_only_backbones_of_text_are_used(host):
    assert native.usable(host)
    said = json.loads((host / "case.json").read_text())
    (host / "case.json").write_text(json.dumps({**said, "inputs_kind": "pixel_values"}))
    assert not native.usable(host)
