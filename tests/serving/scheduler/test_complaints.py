"""How little the log is told, however many rows fail."""

import pytest

from adapters.errors import InvalidRow
from serving.request import Refusal
from serving.scheduler.complaints import QUIET_SECONDS, Complaints
from tests.serving.scheduler.machine import Clock

ROWS = [Refusal("t0", "invalid_arrangement", "no sum", "r"), Refusal("t1", "invalid_row", "too long", "r")]


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def complaints(clock):
    return Complaints(clock)


@pytest.fixture
def lines(caplog):
    with caplog.at_level("WARNING", "chorus.scheduler"):
        yield lambda: [(r.chorus_fields, r.exc_info[0] if r.exc_info else None) for r in caplog.records]


def raised(complaints, error):
    try:
        raise error
    except Exception as caught:
        complaints.step_failed(caught, 8)


def test_many_refusals_are_one_line_and_the_next_line_counts_them(complaints, clock, lines):
    for _ in range(100):
        complaints.rows_refused(ROWS)
        clock.now += QUIET_SECONDS / 200
    clock.now += QUIET_SECONDS
    complaints.rows_refused(ROWS[:1])
    fields = {"code": "invalid_arrangement", "detail": "no sum"}
    assert lines() == [({"steps": 1, "rows": 2, **fields}, None), ({"steps": 100, "rows": 199, **fields}, None)]


def test_a_step_without_refusals_is_no_line(complaints, lines):
    complaints.rows_refused([])
    assert lines() == []


def test_a_row_that_can_not_run_has_no_traceback_and_a_bug_has_one(complaints, lines):
    raised(complaints, InvalidRow("too long"))
    raised(complaints, RuntimeError("shapes do not match"))
    raised(complaints, RuntimeError("shapes do not match"))
    assert lines() == [
        ({"steps": 1, "rows": 8, "detail": "too long"}, None),
        ({"steps": 1, "rows": 8}, RuntimeError),
    ]
