from dataclasses import replace

import pytest
import torch

from adapters.errors import Misfit
from adapters.formats.peft import folder as peft
from adapters.formats.peft.layout import Member
from adapters.manifest import Provenance
from adapters.weights import Package
from tests.adapters.formats.folders import profile
from tests.adapters.formats.peft.reading import reasons
from tests.adapters.formats.peft.test_layouts import PATHS, folder, tensors


def test_a_member_has_a_default_and_values_by_pattern():
    member = Member("alpha", 8, "alpha_pattern")
    assert member.of({}, "a.query") == 8
    assert member.of({"alpha": None}, "a.query") == 8
    assert member.of({"alpha": 0}, "a.query") == 0
    assert member.of({"alpha": 3, "alpha_pattern": {"query": 5}}, "a.query") == 5
    assert Member("alpha", 8).of({"alpha_pattern": {"query": 5}}, "a.query") == 8


def test_a_module_s_own_copy_has_to_be_what_all_share(tmp_path):
    held = tensors("RANDLORA")
    held[f"base_model.model.{PATHS[1]}.randlora_A"] += 1
    (reason,) = reasons(folder(tmp_path, "RANDLORA", held))
    assert reason == f"{PATHS[1]} holds another A than what all modules share"


def test_without_its_configuration_it_is_not_written(tmp_path):
    package = peft.read(folder(tmp_path / "in", "HIRA"), profile())
    lost = Package(replace(package.manifest, provenance=Provenance("chorus", "1"), source={}), package.tensors)
    with pytest.raises(Misfit, match="hira is written with the configuration that it was read with alone"):
        peft.write(lost, tmp_path / "out")
    part = package.manifest.parts[0]
    sites = dict(list(part.config["sites"].items())[:3])
    fewer = Package(replace(package.manifest, parts=(replace(part, config={"sites": sites}),)), package.tensors)
    with pytest.raises(Misfit, match="written with the configuration"):
        peft.write(fewer, tmp_path / "out")


def test_half_precision_stays_what_it_is(tmp_path):
    held = {key: tensor.half() for key, tensor in tensors("HIRA").items()}
    package = peft.read(folder(tmp_path, "HIRA", held), profile())
    assert {tensor.dtype for tensor in package.tensors.values()} == {torch.float16}
