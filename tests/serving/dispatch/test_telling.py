"""What was found out reaches the others once, and again where they may not have heard."""

import asyncio
from dataclasses import dataclass, field

import pytest

from serving.dispatch.ports import Conviction
from serving.dispatch.suspects import Suspects
from serving.dispatch.telling import Telling
from tests.serving.test_affinity import Clock

A, AB = frozenset("a"), frozenset("ab")


@dataclass
class Ears:
    """Peers that hear, or fail, and may find something out while they are told."""

    fail: bool = False
    heard: list = field(default_factory=list)
    meanwhile: object = lambda: None

    async def claim(self, claim):
        raise AssertionError("telling claims nothing")

    async def tell(self, news):
        self.meanwhile()
        if self.fail:
            raise ConnectionError("nobody heard")
        self.heard.append((news.gateway, set(news.cleared), dict(news.convicted), dict(news.suspected)))
        return []


@pytest.fixture
def world():
    suspects, ears = Suspects(Clock()), Ears()
    return suspects, ears, Telling(suspects, ears, name="g1")


def note(suspects, telling):
    """One row of each kind."""
    suspects.strike("s", A)
    telling.strike("s")
    suspects.convict("c", Conviction(frozenset("xy"), proven=False))
    telling.convict(["c"])
    telling.clear("free")


ALL = ("g1", {"free"}, {"c": Conviction(frozenset("xy"), proven=False)}, {"s": A})


def test_all_that_was_found_out_is_told_once(world):
    suspects, ears, telling = world
    assert not telling
    note(suspects, telling)
    assert (bool(telling), set(telling.convicted)) == (True, {"c"})
    asyncio.run(telling.tell())
    asyncio.run(telling.tell())
    assert ears.heard == [ALL]
    assert (bool(telling), set(telling.convicted)) == (False, set())


def test_what_a_telling_that_failed_was_to_tell_is_told_by_the_next(world):
    suspects, ears, telling = world
    note(suspects, telling)
    ears.fail = True
    with pytest.raises(ConnectionError):
        asyncio.run(telling.tell())
    assert (bool(telling), set(telling.convicted)) == (True, {"c"})
    ears.fail = False
    asyncio.run(telling.tell())
    assert ears.heard == [ALL]


def test_what_is_found_out_while_it_is_told_is_told_again(world):
    suspects, ears, telling = world
    note(suspects, telling)

    def more():
        suspects.strike("s", AB)
        for found in (telling.strike, telling.clear):
            found("s" if found == telling.strike else "free")

    ears.meanwhile = more
    asyncio.run(telling.tell())
    ears.meanwhile = lambda: None
    asyncio.run(telling.tell())
    assert ears.heard == [ALL, ("g1", {"free"}, {}, {"s": AB})]
    assert not telling


def test_known_rows_are_told_once_more_on_demand_and_nothing_is_told_of_rows_that_are_none(world):
    suspects, ears, telling = world
    note(suspects, telling)
    asyncio.run(telling.tell())
    asyncio.run(telling.tell(again=frozenset({"s", "c", "unheard of"})))
    assert ears.heard == [ALL, ("g1", set(), ALL[2], ALL[3])]
    telling.strike("freed meanwhile")
    asyncio.run(telling.tell(again=frozenset({"unheard of"})))
    assert (len(ears.heard), bool(telling)) == (2, False)
