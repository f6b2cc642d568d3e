import pytest

from tests.adapters.formats.adapterhub.test_setup import adapter, arranged, block, profile
from tests.serving import fakes
from tests.serving.commands.test_packages import pickled


@pytest.fixture
def held(tmp_path):
    folder = tmp_path / "blobs"
    folder.mkdir()
    return fakes.make_fakes(folder, profile=profile())


@pytest.fixture
def saved(tmp_path):
    folder = tmp_path / "setup"
    folder.mkdir()
    adapter(folder, "lang")
    adapter(folder, "task", head=True)
    return arranged(folder, block("Stack", "lang", "task"), "task")


def test_a_part_of_a_setup_is_still_one_package(hand, saved):
    assert hand.json("push", saved / "task", "tone")["name"] == "tone"
    assert [item["name"] for item in hand.json("ls")["items"]] == ["tone"]


def test_pickles_of_a_setup_are_converted_first(hand, saved):
    pickled(saved / "task")
    assert "converting" in hand.run("push", saved, "news").stderr
    assert [item["name"] for item in hand.json("target", "ls")["items"]] == ["news"]
    assert not list((saved / "task").glob("*.safetensors"))


def test_a_pulled_target_can_be_pushed_under_another_name(hand, saved, tmp_path):
    hand.run("push", saved, "news")
    hand.run("pull", "news", tmp_path / "news.safetensors")
    result = hand.run("push", tmp_path / "news.safetensors", "gossip", "--promote")
    assert "published gossip@1" in result.stderr
    told = [hand.json("target", "show", name)["composition"] for name in ("news", "gossip@prod")]
    assert told[0] == told[1]
    hand.run("target", "rm", "news")
    for name in ("gossip",):
        hand.run("alias", name, "prod", "--delete")
        hand.run("target", "rm", name)
    hand.run("rm", "news/lang")
    hand.run("push", tmp_path / "news.safetensors", "gossip", code=3)


@pytest.mark.parametrize(
    "option", [("--embedding",), ("--labels", "a,b"), ("--problem-type", "multi_label"), ("--task-id", 1)]
)
def test_what_a_composition_can_not_be_is_refused(hand, saved, option):
    hand.run("push", saved, "news", *option, code=1)
    assert hand.json("ls")["items"] == []
