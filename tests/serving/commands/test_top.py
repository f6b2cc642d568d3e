import io
import itertools
from types import SimpleNamespace

import pytest
from rich.console import Console

from serving.commands import top
from serving.commands.meter import Load
from serving.request import Holding, ReplicaReport


@pytest.fixture
def busy(held, monkeypatch):
    """Engines of which each look sees more done; nobody sleeps."""
    naps = []
    clock = SimpleNamespace(sleep=naps.append, monotonic=itertools.count(100, 2).__next__)
    monkeypatch.setattr(top, "time", clock)
    count = itertools.count(10, 10)

    async def reports():
        uses = next(count)
        counters = {"hits": uses, "misses": uses, "loads": 1, "evictions_device": 0}
        return [ReplicaReport("engine-1", True, {"device": 1 << 20}, {"device": 1 << 19}, counters, (), 4, 1)]

    held.fleet.reports = reports
    holding = Holding("engine-1", frozenset(), 60.0, 120.0, lines=(("default", 60.0), ("other", 1.0)))
    held.fleet.held = {"engine-1": holding}
    return naps


def test_two_looks_give_the_rates_of_every_engine(hand, busy):
    (load,) = hand.json("top", "--once", "--interval", "2")["replicas"]
    assert (load["uses_per_s"], load["hit_ratio"], load["wait_s"]) == (10.0, 0.5, 0.5)
    assert load["waiting"] == {"default": 60.0, "other": 1.0}
    assert busy == [2.0]


def test_in_a_pipe_it_prints_once_and_ends(hand, busy):
    lines = [line.split() for line in hand.run("top").stdout.splitlines()]
    assert lines[1] == ["engine-1", "ready", "4", "1", "500", "ms", "10.0", "50.0%", "0.0"]
    assert ["engine-1", "device", "512.0", "KiB", "1.0", "MiB", "-", "0.0"] in lines
    assert ["engine-1", "default", "60"] in lines


def test_what_an_engine_says_is_text_and_never_markup(busy):
    told = Console(width=200, record=True, file=io.StringIO())
    told.print(top.picture([LOAD]))
    assert "[red]e[/]" in told.export_text()


LOAD = Load("[red]e[/]", "ready", 0, 0, 0.0, 0.0, None, None, None, None, {}, {})


def test_an_interval_is_not_nothing(hand, busy):
    hand.run("top", "--interval", "0", code=2)
