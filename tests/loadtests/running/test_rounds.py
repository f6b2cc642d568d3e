import asyncio
from contextlib import contextmanager

import pytest

from loadtests.client.plan import Tenant
from loadtests.results.folder import REQUESTS
from loadtests.running import rounds
from loadtests.running.preparing import NotPrepared
from loadtests.running.rounds import execute, line_of
from loadtests.running.settings import Settings
from loadtests.running.showing import Show
from loadtests.scenarios.steps import steps_of
from loadtests.served.own import Own
from loadtests.served.target import Target, place_of
from tests.loadtests.conftest import TINY
from tests.loadtests.fake import FakeService, Served, sample, scenario, steady, take_of

SHORT = {"seconds": 0.4, "warmup_s": 0.1}
SMALL = {"adapters": {"count": 3, "texts": 2}, "time": SHORT, "arrivals": {"rate": 40}}


class FakeStage:
    """A service of our own that has no processes."""

    def pids(self):
        return []


@pytest.fixture
def own(profile, monkeypatch):
    """What was started, one entry for each start, and the fake behind all of them."""
    starts = []
    fake = FakeService(profile)
    fake.metrics_for = "ck_watcher"
    with Served(fake) as served:

        @contextmanager
        def started(own, rooms, tenants, data, tolerance):
            starts.append((rooms, data.name))
            fake.budgets = {"device": rooms.device}
            yield (
                Target(place_of(served.url), tuple(Tenant(t.name, "ck") for t in tenants), tolerance, "ck_watcher"),
                FakeStage(),
            )

        monkeypatch.setattr(rounds, "started", started)
        yield starts, fake


def executed(tmp_path, held, **changes):
    told = {"own": Own(TINY), "url": None, "key_file": None, "backbone": TINY} | changes
    settings = Settings("small", held, tmp_path / "out", 0, "python ...", clients=1, tolerance=1e-4, **told)
    (tmp_path / "scratch").mkdir()
    return asyncio.run(execute(settings, tmp_path / "scratch", Show(quiet=True)))


def test_a_service_of_our_own_is_given_everything_and_told_of(own, tmp_path):
    starts, fake = own
    run = executed(tmp_path, scenario(**SMALL, tenants=[{"name": "a"}, {"name": "b"}]))
    assert len(starts) == 1
    assert len(fake.names) == 6
    assert run.service["own"] is True
    assert run.service["dtype"] == "float32"
    assert run.service["backbone"] == TINY.name
    assert run.service["accelerator"] == "none"
    assert run.takes[0].client.service_cores == 0
    assert run.population["fingerprints"] == "computed by the library"
    assert run.figures["wrong"] > 0  # the fake's answers are not the library's
    assert run.faults
    assert (tmp_path / "out" / REQUESTS).exists()


def test_each_room_has_a_service_of_its_own(own, tmp_path):
    starts, _ = own
    run = executed(tmp_path, scenario(**SMALL, sweep={"over": "device", "values": [2, 3]}))
    assert [data for _, data in starts] == ["data-0", "data-1"]
    two, three = (rooms.device for rooms, _ in starts)
    assert three == pytest.approx(1.5 * two, rel=0.01)
    assert [take.value for take in run.takes] == [2, 3]


def test_each_room_has_a_new_service_in_every_round_and_is_offered_the_same(own, tmp_path, monkeypatch):
    starts, _ = own
    probed = []

    async def peak(_bench, scenario, seed):
        probed.append((scenario.room.device, seed))
        return 100.0 / len(probed)

    monkeypatch.setattr(rounds, "probe", peak)
    held = SMALL | {"time": SHORT | {"rounds": 2}, "arrivals": {"load": 0.4}}
    run = executed(tmp_path, scenario(**held, sweep={"over": "device", "values": [2, 3]}))
    assert [(take.value, take.round) for take in run.takes] == [(2, 0), (3, 0), (3, 1), (2, 1)]
    small, large = starts[0][0].device, starts[1][0].device
    assert [rooms.device for rooms, _ in starts] == [small, large, large, small]
    assert len({data for _, data in starts}) == 4
    assert probed == [(2, 0)]
    assert [(take.rate, take.peak) for take in run.takes] == [(40.0, 100.0)] * 4
    assert run.service["budgets"] == [{"device": small}, {"device": large}]


def test_of_one_room_the_peak_is_looked_for_in_every_round(own, tmp_path, monkeypatch):
    starts, _ = own
    peaks = [100.0, 50.0]

    async def peak(*_):
        return peaks.pop(0)

    monkeypatch.setattr(rounds, "probe", peak)
    held = SMALL | {"time": SHORT | {"rounds": 2}, "arrivals": {"load": 0.4}}
    run = executed(tmp_path, scenario(**held, sweep={"over": "cv", "values": [0.0, 1.0]}))
    assert [take.rate for take in run.takes] == [40.0, 40.0, 20.0, 20.0]
    assert len(starts) == 1
    assert run.service["budgets"] == [{"device": None}]


def test_rounds_go_back_and_forth(own, tmp_path):
    starts, _ = own
    held = scenario(**SMALL | {"time": SHORT | {"rounds": 2}}, sweep={"over": "cv", "values": [0.0, 1.0]})
    run = executed(tmp_path, held)
    assert [(take.value, take.round) for take in run.takes] == [(0.0, 0), (1.0, 0), (1.0, 1), (0.0, 1)]
    assert len(starts) == 1
    assert run.takes[0].sums.requests == pytest.approx(16, abs=1)  # a clock


def test_texts_that_were_cut_are_told(own, tmp_path):
    held = scenario(**SMALL, requests={"lengths": {"law": "uniform", "lowest": 8, "highest": 512}})
    run = executed(tmp_path, held)
    assert any("texts were cut to the" in note for note in run.notes)
    assert run.population["texts_cut"] > 100


def test_a_room_can_not_be_swept_in_a_running_service(tmp_path):
    held = scenario(**SMALL, sweep={"over": "device", "values": [2, 3]})
    with pytest.raises(NotPrepared, match="leave out --url"):
        executed(tmp_path, held, own=None, url="http://127.0.0.1:1")


def test_a_take_in_one_line():
    held = scenario(sweep={"over": "cv", "values": [1, 2]})
    _, step = steps_of(held)
    told = line_of(take_of(step, [*steady(50, 12), sample(3.0, 0.01, "late")], rate=50.0))
    assert told == "2: 50.1/s offered, 50.0/s right, p50 10.0, p99 10.0 ms, 1 late"
    assert line_of(take_of(steps_of(scenario())[0], [])).startswith("closed loop, 0.0/s right, -")


def test_others_on_the_machine_are_told(own, tmp_path, monkeypatch):
    monkeypatch.setattr(rounds, "CROWDED", -1.0)
    run = executed(tmp_path, scenario(**SMALL))
    assert any(note.startswith("The machine was shared: processes") for note in run.notes)
