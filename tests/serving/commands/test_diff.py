from dataclasses import replace

import pytest
import torch

from adapters.formats import native
from adapters.weights import Package
from serving.commands.diff import Moved, difference
from tests.adapters import builders
from tests.serving import fakes

HEAD = builders.HEADS["two_layers"]


@pytest.fixture
def held(tmp_path):
    folder = tmp_path / "blobs"
    folder.mkdir()
    return fakes.make_fakes(folder, profile=builders.profile("bert"))


def package(part=None, head=HEAD, **changes):
    made = builders.package("bert", [part or builders.lora()], head)
    return Package(made.manifest, {**made.tensors, **changes})


def test_a_package_is_equal_to_itself():
    found = difference(package(), package())
    assert (found.manifest, found.tensors, found.equal) == ((), (), len(package().tensors))


def test_a_tensor_that_moved_tells_how_far():
    name = "0/attn_q/lora_A"
    before = package()
    found = difference(before, package(**{name: before.tensors[name] * 1.1}))
    assert [item.tensor for item in found.tensors] == [name]
    assert found.tensors[0].change == pytest.approx(0.1, rel=1e-4)
    from_zero = difference(package(**{name: torch.zeros(3, 32)}), before)
    assert from_zero.tensors[0].change == 1.0


def test_the_last_bit_counts():
    name = "0/attn_q/lora_A"
    moved = package().tensors[name].clone()
    moved[0, 0] = torch.nextafter(moved[0, 0], torch.tensor(9.0))
    found = difference(package(), package(**{name: moved}))
    assert 0 < found.tensors[0].change < 1e-6


def test_shapes_that_differ_and_tensors_of_one_side_alone():
    found = difference(package(builders.lora(rank=3)), package(builders.lora(("attn_q", "attn_k"), rank=2)))
    moved = {item.tensor: item for item in found.tensors}
    assert moved["0/attn_q/lora_A"] == Moved("0/attn_q/lora_A", [3, 32], [2, 32], None)
    assert moved["0/attn_v/lora_A"] == Moved("0/attn_v/lora_A", [3, 32], None, None)
    assert moved["0/attn_k/lora_A"] == Moved("0/attn_k/lora_A", None, [2, 32], None)
    said = {item.member: (item.before, item.after) for item in found.manifest}
    assert said["/parts/0/config/sites/0/attn_q/rank"] == (3, 2)
    assert said["/parts/0/config/sites/0/attn_k/rank"] == (None, 2)


def test_labels_are_one_member():
    other = replace(HEAD, labels=("x", "y", "z"))
    found = difference(package(), package(head=other))
    assert [(item.member, item.before, item.after) for item in found.manifest] == [
        ("/head/labels", ["a", "b", "c"], ["x", "y", "z"])
    ]


def test_two_versions_are_compared_here(hand, tmp_path):
    name = "0/attn_q/lora_A"
    for number, made in enumerate((package(), package(**{name: package().tensors[name] * 2})), 1):
        file = tmp_path / f"{number}.safetensors"
        file.write_bytes(native.write(made))
        hand.run("push", file, "tone")
    lines = [line.split() for line in hand.run("diff", "tone@1", "tone@2").stdout.splitlines()]
    assert [name, "3", "x", "32", "3", "x", "32", "100.00%"] in lines
    told = hand.json("diff", "tone@1", "tone@2")
    assert ([item["tensor"] for item in told["tensors"]], told["manifest"]) == ([name], [])
    assert "equal: " in hand.run("diff", "tone@2", "tone").stdout
    hand.run("diff", "tone@1", "tone@9", code=3)
