"""Refusals from errors, and how answers reach their callers."""

import numpy as np
import pytest

from adapters import errors as library
from serving.errors import REFUSALS, DependencyFailed, Overloaded, Unprocessable
from serving.request import Refusal, Result, Timing
from serving.scheduler.replies import Answer, failed, refusal, refused, send
from serving.scheduler.waiting import Waiting
from tests.serving.scheduler.machine import ticket


def row(name, sink=print):
    made = ticket(name)
    return Waiting(made, made.refs, sink, 0.0, 1.0)


def test_a_refusal_says_what_and_when_to_come_back():
    reply = refused(row("t"), Overloaded("full", retry_after=2.5), "r1").reply
    assert reply == Refusal("t", "overloaded", "full", "r1", 2.5)


def test_a_finer_code_reaches_the_caller_where_the_table_knows_its_kind():
    reply = refused(row("t"), DependencyFailed("no", code="out_of_room"), "r").reply
    assert (reply.code, REFUSALS[reply.code]) == ("out_of_room", DependencyFailed)


def test_a_code_that_the_table_lacks_falls_back_to_its_kind():
    assert refused(row("t"), Unprocessable("no", code="too_many_tokens"), "r").reply.code == "unprocessable"


def test_a_library_error_keeps_its_reason_and_its_code():
    reply = failed(row("t"), library.InvalidRow("600 tokens; the backbone takes 512"), "r").reply
    assert (reply.code, reply.detail) == ("invalid_row", "600 tokens; the backbone takes 512")


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (library.InvalidArrangement("no sum"), 422, "invalid_arrangement"),
        (library.InvalidRow("too long"), 422, "invalid_row"),
        (library.InvalidRows({0: library.InvalidRow("too long")}), 422, "invalid_row"),
        (library.UnsupportedComposition("several rows"), 422, "unsupported_composition"),
        (library.OutOfRoom("9 bytes"), 424, "out_of_room"),
        (library.LoadFailed("torn"), 424, "adapter_load_failed"),
    ],
)
def test_every_library_error_that_a_row_can_meet_has_a_status_and_a_code_of_its_own(error, status, code):
    reply = refusal(ticket("t"), error, "r")
    assert (reply.code, reply.detail, REFUSALS[reply.code].status) == (code, str(error), status)


def test_a_bugs_reason_stays_inside():
    reply = failed(row("t"), RuntimeError("/secret/path"), "r").reply
    assert reply.code == "engine_failed"
    assert "secret" not in reply.detail


def test_each_caller_gets_its_answers_in_one_call():
    one, other = [], []
    took_one, took_other = one.append, other.append
    rows = [row("a", took_one), row("b", took_other), row("c", took_one)]
    replies = [Result(r.ticket.id, np.zeros(1, np.float32), Timing(0, 0, 0), {}, "r", 3) for r in rows]
    assert send([Answer(r, reply) for r, reply in zip(rows, replies, strict=True)]) == 3
    assert one == [(replies[0], replies[2])]
    assert other == [(replies[1],)]


def test_a_caller_that_raises_does_not_cost_the_others_their_answers():
    def broken(replies):
        raise OSError("gone")

    got = []
    send([refused(row("a", broken), Overloaded("x"), "r"), refused(row("b", got.append), Overloaded("x"), "r")])
    assert [reply.ticket for (reply,) in got] == ["b"]
