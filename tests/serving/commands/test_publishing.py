import sys

import pytest

from tests.adapters.formats.adapterhub.test_setup import adapter, arranged, block, profile
from tests.serving import fakes


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


def test_a_dry_run_publishes_nothing(hand, held, saved):
    file = saved / "task"
    result = hand.run("push", file, "tone", "--dry-run", "--promote")
    assert "would make tone@1" in result.stdout
    assert hand.json("push", file, "tone", "--dry-run")["outlook"]["creates"]
    assert hand.json("ls")["items"] == []
    assert held.control.audit == []


def test_every_part_of_a_setup_is_tried_and_none_published(hand, saved):
    found = hand.json("push", saved, "news", "--dry-run")["items"]
    assert [item["name"] for item in found] == ["news/lang", "news/task"]
    assert hand.json("ls")["items"] == []


def test_tags_are_said_of_the_version_and_kept_when_it_is_pushed_again(hand, saved):
    file = saved / "task"
    hand.run("push", file, "tone", "--tag", "owner=search", "--tag", "run=7")
    assert hand.json("show", "tone")["selected"]["tags"] == {"owner": "search", "run": "7"}
    hand.run("push", file, "tone", "--tag", "run=8")
    assert hand.json("show", "tone")["selected"]["tags"] == {"owner": "search", "run": "8"}
    hand.run("push", file, "tone")
    assert hand.json("show", "tone")["selected"]["tags"] == {"owner": "search", "run": "8"}
    hand.run("push", file, "tone", "--tag", "run", code=2)


def test_a_target_has_tags_as_well(hand, saved):
    hand.run("push", saved, "news", "--tag", "owner=search")
    assert hand.json("show", "news")["selected"]["tags"] == {"owner": "search"}


def test_a_pulled_target_has_nothing_to_try(hand, saved, tmp_path):
    hand.run("push", saved, "news")
    hand.run("pull", "news", tmp_path / "news.safetensors")
    assert "chorus target put" in hand.run("push", tmp_path / "news.safetensors", "copy", "--dry-run", code=1).stderr


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (("/nonexistent", "tone"), 3, "there is no /nonexistent"),
        ((__file__, "Bad_Name"), 1, "'Bad_Name' is not a name"),
    ],
)
def test_a_wrong_path_or_name_is_told_before_torch_is_imported(hand, monkeypatch, words, code, told):
    monkeypatch.setitem(sys.modules, "serving.commands.pushing", None)  # whoever imports it fails otherwise
    assert told in hand.run("push", *words, code=code).stderr
