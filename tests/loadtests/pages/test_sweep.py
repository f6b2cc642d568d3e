import pytest

from loadtests.pages.sweep import applies, draw, name
from tests.loadtests.fake import plain_run, sweep_run
from tests.loadtests.pages.pictured import line, panels, words

ADAPTERS = {"over": "adapters", "values": (1, 10, 100)}


def test_it_is_for_sweeps_of_anything_but_the_load():
    assert applies(sweep_run(**ADAPTERS))
    assert not applies(sweep_run())
    assert not applies(plain_run())


def test_its_file_is_named_for_what_is_swept():
    assert name(sweep_run(**ADAPTERS)) == "adapters"
    assert name(sweep_run(over="device", values=(5, 10))) == "cache"
    assert name(sweep_run(over="cv", values=(1, 2))) == "sweep"


def test_figures_stand_over_the_knob_rounds_as_dots():
    throughput, waits, hits, batch = panels(draw, sweep_run(rounds=3, **ADAPTERS))
    x, y = line(throughput, "right answers per second")
    assert x == [1, 10, 100]
    assert y == pytest.approx([30, 60, 63], rel=0.02)
    assert line(throughput, "offered per second")[1] == pytest.approx([30, 60, 93], rel=0.02)
    assert sum(len(dots.get_xdata()) for dots in throughput.get_lines()) == 2 * (3 * 3 + 3)
    assert throughput.get_xscale() == "log"
    assert line(waits, "p50")[1] == sorted(line(waits, "p50")[1])
    assert line(hits, "device")[1] == [0.8] * 3
    assert line(batch, "adapters")[1] == [3.0] * 3


def test_near_values_stand_at_their_distance_and_words_evenly():
    assert panels(draw, sweep_run(over="cv", values=(1, 2, 4)))[0].get_xscale() == "linear"
    run = sweep_run(over="law", values=("identical", "zipf"))
    assert line(panels(draw, run)[0], "right answers per second")[0] == [0, 1]
    assert {"identical", "zipf", "popularity law"} <= set(words(draw, run))
