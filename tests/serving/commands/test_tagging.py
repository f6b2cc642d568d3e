import asyncio

import pytest

from serving.client import Client
from serving.commands.tagging import ATTEMPTS, retag
from serving.errors import NotFound, PreconditionFailed


@pytest.fixture
def tone(held):
    asyncio.run(held.publish("tone"))


@pytest.fixture
def space(hand, tone):
    with Client(hand.url) as client:
        yield client.adapters


def interrupted(space, monkeypatch, times):
    """Whoever reads the tags finds that somebody else has set one since, so many times."""
    show, left = space.show, list(range(times))

    def shown(reference):
        found = show(reference)
        if left:
            space.set_tags("tone", 1, {**found["selected"]["tags"], f"other{left.pop()}": "x"})
        return found

    monkeypatch.setattr(space, "show", shown)


def test_tags_are_added_changed_and_taken_away(hand, tone):
    hand.run("tag", "tone@1", "owner=search", "run=7")
    assert hand.json("tag", "tone@1", "run=8") == {"owner": "search", "run": "8"}
    assert hand.json("tag", "tone", "--remove", "owner") == {"run": "8"}
    assert hand.run("tag", "tone").stdout.splitlines()[1].split() == ["run", "8"]
    assert hand.json("show", "tone")["selected"]["tags"] == {"run": "8"}
    hand.run("tag", "tone", "run", code=2)
    hand.run("tag", "tone@4", "run=1", code=3)


def test_what_somebody_else_sets_meanwhile_stays(space, monkeypatch):
    interrupted(space, monkeypatch, 2)
    wanted = {"run": "7", "other0": "x", "other1": "x"}
    assert retag(space, "tone@1", {"run": "7"}) == wanted
    assert space.show("tone")["selected"]["tags"] == wanted


def test_a_name_that_changes_all_the_time_is_refused_in_the_end(space, monkeypatch):
    interrupted(space, monkeypatch, ATTEMPTS)
    with pytest.raises(PreconditionFailed, match="the revision is"):
        retag(space, "tone@1", {"run": "7"})
    assert "run" not in space.show("tone")["selected"]["tags"]


def test_to_ask_for_tags_changes_nothing(space):
    space.set_tags("tone", 1, {"a": "b"})
    before = space.show("tone")["revision"]
    assert retag(space, "tone", {}) == {"a": "b"}
    assert space.show("tone")["revision"] == before
    with pytest.raises(NotFound):
        retag(space, "nobody", {"a": "b"})
