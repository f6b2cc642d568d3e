"""Whom a loss makes a suspect: what was on board, and nobody whose record, or whose time of leaving, speaks for him."""

import asyncio

import pytest

from serving.dispatch.blaming import Blaming
from serving.dispatch.flights import Flight, Request
from serving.dispatch.ports import Conviction
from serving.dispatch.record import Record
from serving.dispatch.suspects import Suspects
from serving.dispatch.telling import Telling
from tests.serving.dispatch.worlds import Gateways, mark, row
from tests.serving.test_affinity import Clock


class Scene:
    """One gateway's knowledge, and what its engines have on board."""

    def __init__(self):
        clock = self.clock = Clock()
        self.suspects, self.record, self.aboard = Suspects(clock), Record(clock), []
        self.telling = Telling(self.suspects, Gateways(), name="g1")
        self.blaming = Blaming(self.suspects, self.record, self.telling, name="g1", under_way=lambda: iter(self.aboard))

    def flight(self, number, replica="a", *, request=None):
        answer = asyncio.Future(loop=self.loop)
        made = Flight(row(f"t{number}", number), answer, 30.0, request or Request(), replica, left=self.clock.now)
        self.aboard.append(made)
        return made

    def lose(self, replica, *flights, asked=None):
        self.aboard = [flight for flight in self.aboard if flight not in flights]
        self.blaming.lost(flights, replica, asked=asked)


@pytest.fixture
def scene():
    made = Scene()
    made.loop = asyncio.new_event_loop()
    yield made
    made.loop.close()


def test_all_that_was_on_board_is_suspected_though_only_one_of_its_calls_has_ended(scene):
    first, _, elsewhere = scene.flight(1), scene.flight(2), scene.flight(3, "b")
    scene.lose("a", first)
    assert scene.suspects.strikes() == dict.fromkeys([mark(1), mark(2)], frozenset("a"))
    assert scene.telling
    assert elsewhere.request.lost == set()


def test_whom_the_record_vouches_for_or_who_left_after_the_loss_was_seen_is_not_suspected(scene):
    known = scene.flight(1)
    scene.record.answered(known.ticket)
    scene.lose("a", known)
    scene.clock.now += 1
    late = scene.flight(2)
    scene.lose("a", late)
    assert not scene.suspects
    assert not scene.telling


def test_whoever_was_asked_is_convicted_of_both_losses_and_frees_the_others(scene):
    asked, other = scene.flight(1), scene.flight(2)
    scene.lose("a", asked, other)
    asked.replica = "b"
    beside = scene.flight(3, "b")
    scene.lose("b", beside, asked=asked)
    assert scene.suspects.convictions() == {mark(1): Conviction(frozenset("ab"), proven=True)}
    assert scene.suspects.strikes() == {}
    assert set(scene.telling.convicted) == {mark(1)}


def test_the_losses_of_one_request_add_up_over_its_rows(scene):
    request = Request()
    scene.lose("a", scene.flight(1, request=request))
    scene.lose("b", scene.flight(2, "b", request=request))
    assert scene.suspects.grave() == {mark(2)}


def test_what_others_suspect_is_suspected_here_with_all_that_is_on_board_of_the_same_replica(scene):
    scene.flight(1, "b"), scene.flight(2, "c")
    scene.blaming.heard({mark(9): frozenset("ab")})
    assert scene.suspects.strikes() == {mark(9): frozenset("ab"), mark(1): frozenset("b")}
    assert scene.telling, "that the first was on board there, nobody else knows"


def test_a_sentence_meets_the_grave_rows_that_nothing_explains_and_is_to_be_told(scene):
    scene.blaming.heard({mark(1): frozenset("ab"), mark(2): frozenset("a")})
    assert scene.blaming.sentence([mark(1), mark(2)]) == {mark(1)}
    assert set(scene.telling.convicted) == {mark(1)}
    assert scene.blaming.sentence([mark(2)]) == frozenset()
