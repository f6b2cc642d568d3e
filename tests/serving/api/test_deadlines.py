import pytest

from serving.api.deadlines import Deadline
from serving.errors import DeadlineExceeded


class Clock:
    now = 50.0

    def __call__(self):
        return self.now


def test_what_is_left_goes_down_to_nothing_and_no_further():
    clock = Clock()
    deadline = Deadline.after(2.0, clock)
    assert (deadline.left_s, deadline.spent_s) == (2.0, 0.0)
    clock.now += 1.5
    assert (deadline.left_s, deadline.spent_s) == (0.5, 1.5)
    clock.now += 5
    assert deadline.left_s == 0.0


def test_work_for_nobody_is_refused_and_says_before_what():
    clock = Clock()
    deadline = Deadline.after(0.25, clock)
    deadline.check("tokenizing")
    clock.now += 0.25
    with pytest.raises(DeadlineExceeded, match="no answer within 250 ms: it passed before tokenizing"):
        deadline.check("tokenizing")
    assert deadline.late().detail == "no answer within 250 ms"
