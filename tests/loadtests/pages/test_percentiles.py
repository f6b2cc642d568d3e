import pytest

from loadtests.pages.percentiles import draw
from tests.loadtests.fake import plain_run, sweep_run
from tests.loadtests.pages.pictured import panels, words


def test_the_tail_is_spread_out():
    (axes,) = panels(draw, plain_run())
    (drawn,) = axes.get_lines()
    x = list(drawn.get_xdata())
    assert x[0] == 0
    assert x[-1] == pytest.approx(2.625)  # 500 answers tell of no more than 99.8 %
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["0 %", "50 %", "90 %", "99 %"]


def test_every_step_is_a_line_with_its_value():
    assert {"0.5", "1", "1.5"} <= set(words(draw, sweep_run(rounds=2)))
    assert len(panels(draw, sweep_run(rounds=2))[0].get_lines()) == 3


def test_a_step_without_answers_has_no_line():
    assert "no right answers" in words(draw, sweep_run(capacity=0.0))
