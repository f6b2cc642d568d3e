from dataclasses import replace

import pytest

from loadtests.pages.along import PANELS, draw, spread
from tests.loadtests.fake import phased_run, plain_run, sweep_run
from tests.loadtests.pages.pictured import line, panels, words


def test_one_step_has_waits_rates_and_tiers():
    waits, rates, found = panels(draw, plain_run())
    assert line(waits, "p50")[1] == pytest.approx([10.0] * len(line(waits, "p50")[1]))
    assert line(rates, "offered")[1][0] == 50
    assert found.get_ylim() == (0, 1)
    assert not any(child.get_label() == "publish" for child in waits.get_lines())


def test_publishes_are_marked_when_they_were_acknowledged_and_busy_phases_are_tinted():
    run = phased_run()
    waits = panels(draw, run)[0]
    assert line(waits, "publish")[0] == [one.done for one in run.takes[0].published]
    tinted = [patch.get_extents().width for patch in waits.patches]
    assert len(tinted) == 3  # the warm-up and two busy phases
    assert "warm-up" in words(draw, run)


def test_a_publish_that_was_not_acknowledged_is_not_marked():
    run = phased_run()
    first, *others = run.takes[0].published
    refused = replace(run, takes=(replace(run.takes[0], published=(replace(first, status=503), *others)),))
    assert line(panels(draw, refused)[0], "publish")[0] == [one.done for one in others]
    none = replace(run, takes=(replace(run.takes[0], published=(replace(first, status=0),)),))
    assert not any(drawn.get_label() == "publish" for drawn in panels(draw, none)[0].get_lines())


def test_tiers_are_called_what_they_are():
    assert "disk or store" in words(draw, plain_run())


def test_a_closed_loop_offers_nothing():
    run = plain_run()
    closed = replace(run, takes=(replace(run.takes[0], rate=None),))
    assert {drawn.get_label() for drawn in panels(draw, closed)[1].get_lines()} >= {"answered"}
    assert "offered" not in words(draw, closed)


def test_steps_have_a_panel_each_on_one_scale():
    axes = panels(draw, sweep_run(rounds=2))
    assert [panel.get_title(loc="left") for panel in axes] == ["load 0.5", "load 1", "load 1.5"]
    assert len({panel.get_ylim() for panel in axes}) == 1


def test_of_many_steps_some_are_shown_the_first_and_the_last_among_them():
    takes = list(sweep_run(values=(0.1, 0.2)).takes)
    many = [replace(takes[0], value=float(n)) for n in range(40)]
    shown = spread(many)
    assert (len(shown), shown[0].value, shown[-1].value) == (PANELS, 0.0, 39.0)
    assert len({take.value for take in shown}) == PANELS
    assert spread(takes) == takes
