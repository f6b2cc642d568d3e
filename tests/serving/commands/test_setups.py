import asyncio

import pytest
import torch

from adapters.errors import InvalidName, Misfit
from adapters.formats import native
from adapters.formats.adapterhub import setup
from serving.commands.setups import parts, push_setup, renamed
from serving.errors import Unprocessable
from tests.adapters.formats.adapterhub.test_setup import adapter, arranged, block, fusion, head_alone, profile
from tests.serving import fakes


@pytest.fixture
def held(tmp_path):
    folder = tmp_path / "blobs"
    folder.mkdir()
    return fakes.make_fakes(folder, profile=profile())


@pytest.fixture
def saved(tmp_path):
    """A language adapter under a fusion of two, with a head of its own."""
    folder = tmp_path / "setup"
    folder.mkdir()
    for name in ("My Lang", "a", "b"):
        adapter(folder, name)
    fusion(folder, "a,b", ["a", "b"])
    head_alone(folder, "fused_head")
    return arranged(folder, block("Stack", "My Lang", block("Fuse", "a", "b")), "fused_head")


def names(hand):
    return {item["name"]: (item["current"]["kind"], item["versions"]) for item in hand.json("ls")["items"]}


def test_every_part_is_published_below_the_targets_name(hand, saved):
    result = hand.run("push", saved, "news", "--promote")
    assert names(hand) == {
        "news": ("target", [1]),
        "news/a": ("adapter", [1]),
        "news/a-b": ("fusion", [1]),
        "news/b": ("adapter", [1]),
        "news/fused_head": ("head", [1]),
        "news/my-lang": ("adapter", [1]),
    }
    assert "1 of 5: the adapter 'My Lang' as news/my-lang" in result.stderr
    assert "prod moved to it" in result.stderr
    composition = hand.json("target", "show", "news@prod")["composition"]
    fused = {"fuse": ["news/a@1", "news/b@1"], "name": "news/a-b@1"}
    assert composition["adapters"] == {"stack": ["news/my-lang@1", fused]}
    assert composition["head"] == "news/fused_head@1"


def test_pushing_again_changes_nothing_and_says_so(hand, saved):
    first, again = hand.json("push", saved, "news"), hand.json("push", saved, "news")
    assert (first["created"], again["created"], again["version"]) == (True, False, 1)
    assert [part["source"] for part in first["parts"]] == ["My Lang", "a", "b", "a,b", "fused_head"]
    assert not any(part["created"] for part in again["parts"])
    assert [part["name"] for part in first["parts"]] == [part["name"] for part in again["parts"]]


def test_the_head_of_an_adapter_is_named_by_its_adapter(hand, tmp_path):
    adapter(tmp_path, "lang")
    adapter(tmp_path, "task", head=True)
    arranged(tmp_path, block("Stack", "lang", "task"), "task")
    hand.run("push", tmp_path, "team/news")
    composition = hand.json("target", "show", "team/news")["composition"]
    assert composition["adapters"] == {"stack": ["team/news.lang@1", "team/news.task@1"]}
    assert composition["head"] == "team/news.task@1"


def test_nothing_is_sent_before_everything_fits(hand, held, saved):
    found = setup.read(saved, profile())
    broken = found.adapters["b"]
    tensors = {name: torch.full_like(tensor, float("nan")) for name, tensor in broken.tensors.items()}
    adapters = found.adapters | {"b": type(broken)(broken.manifest, tensors)}
    spoilt = setup.Setup(found.composition, adapters, found.fusions, found.heads, found.head, ())
    with pytest.raises(Misfit, match=r"b: tensor .* holds NaN"):
        push_setup(None, spoilt, "news", profile(), promote=False)
    with pytest.raises(InvalidName):
        push_setup(None, found, "NOT A NAME", profile(), promote=False)
    assert held.directory.records == {}


@pytest.mark.parametrize(("taken", "by"), [("news", "package"), ("news/b", "target"), ("news/a-b", "target")])
def test_a_name_of_another_kind_is_told_before_anything_is_sent(hand, held, saved, taken, by):
    asyncio.run(held.publish("mine", fakes.adapter_manifest()))
    if by == "package":
        asyncio.run(held.publish(taken, fakes.adapter_manifest()))
    else:
        hand.run("target", "put", taken, "-a", "mine")
    before = names(hand)
    result = hand.run("push", saved, "news", code=4)
    assert f"{taken!r} is the name of a {by}" in result.stderr
    assert names(hand) == before


def test_a_target_that_could_never_answer_is_told_before_anything_is_sent(hand, held, saved):
    found = setup.read(saved, profile())
    parallel = setup.Setup({"parallel": ["a", "b"]}, found.adapters, {}, found.heads, found.head, ())
    with pytest.raises(Unprocessable, match="leave `head` out"):
        push_setup(None, parallel, "news", profile(), promote=False)
    three = {"stack": [{"fuse": ["a", "b", "My Lang"], "name": "a,b"}]}
    with pytest.raises(Unprocessable, match=r"news/a-b fuses 2 \(a, b\), and here are 3"):
        push_setup(
            None, setup.Setup(three, found.adapters, found.fusions, {}, None, ()), "news", profile(), promote=False
        )
    assert held.directory.records == {}


def test_library_names_become_valid_and_distinct(saved):
    found = setup.read(saved, profile())
    package = found.adapters["a"]
    called = ("Größe XL", "größe/xl", "..", "versions", "x" * 99, "a", "A")
    many = setup.Setup({}, dict.fromkeys(called, package), {"a": package}, {}, None, ())
    made = [part.name for part in parts(many, "news")]
    assert made == [
        "news/groe-xl",
        "news/groe-xl-adapter",
        "news/adapter",
        "news/versions-adapter",
        "news/" + "x" * 40,
        "news/a",
        "news/a-adapter",
        "news/a-fusion",
    ]
    assert [part.library_name for part in parts(many, "news")] == [*called, "a"]


def test_options_of_blocks_are_no_names():
    words = {("adapter", "a"): "n/a@1", ("adapter", "b"): "n/b@2", ("fusion", "a"): "n/f@3"}
    written = {
        "stack": [
            {"average": ["a", "b"], "weights": [1, 2]},
            {"split": ["a", {"stack": ["b"]}], "splits": [3, 4]},
            {"fuse": ["a", "b"], "name": "a"},
        ]
    }
    assert renamed(written, words) == {
        "stack": [
            {"average": ["n/a@1", "n/b@2"], "weights": [1, 2]},
            {"split": ["n/a@1", {"stack": ["n/b@2"]}], "splits": [3, 4]},
            {"fuse": ["n/a@1", "n/b@2"], "name": "n/f@3"},
        ]
    }


def test_the_published_parts_are_the_read_ones(hand, held, saved):
    hand.run("push", saved, "news")
    found = setup.read(saved, profile())
    ref = held.directory.records["default", "adapter", "news/a-b"].current.ref
    data = (held.control.folder / ref.digest.removeprefix("sha256:")).read_bytes()
    assert data == native.write(found.fusions["a,b"])
