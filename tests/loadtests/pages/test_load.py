import pytest

from loadtests.pages.load import applies, draw
from tests.loadtests.fake import plain_run, sweep_run
from tests.loadtests.pages.pictured import line, panels, words


def test_it_is_for_sweeps_of_the_load():
    assert applies(sweep_run())
    assert not applies(sweep_run(over="adapters", values=(1, 2)))
    assert not applies(plain_run())


def test_what_was_answered_stands_over_what_was_offered_with_the_knee():
    run = sweep_run(rounds=2)
    answered, waits = panels(draw, run)
    offered, right = line(answered, "answered")
    assert offered == pytest.approx([30, 60, 93], rel=0.02)
    assert right == pytest.approx([30, 60, 63], rel=0.02)
    assert line(waits, "p99")[1][-1] > line(waits, "p99")[1][0]
    assert waits.get_yscale() == "log"
    assert "knee 60/s" in words(draw, run)


def test_steps_are_drawn_by_their_load_whatever_their_order():
    offered, _ = line(panels(draw, sweep_run(values=(1.5, 0.5)))[0], "answered")
    assert offered == sorted(offered)


def test_without_a_knee_none_is_marked():
    assert not any("knee" in word for word in words(draw, sweep_run(capacity=3.0)))


def test_where_all_is_answered_the_picture_says_how_far_it_was_looked():
    told = words(draw, sweep_run(capacity=500.0))
    assert "no knee up to 90/s" in told
    assert "knee" not in told


def test_nothing_answered_is_drawn_as_well():
    assert "no right answers" in words(draw, sweep_run(capacity=0.0))
