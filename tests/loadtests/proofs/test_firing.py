import asyncio
import os
import random
import time

import pytest

from loadtests.proofs import firing
from loadtests.proofs.firing import cpu_seconds, evenly, fire, randomly
from loadtests.proofs.stage import Stage, StageFailed
from loadtests.proofs.volley import Plan, Shot
from tests.loadtests.proofs.test_volley import QUESTION, Server, serving


@pytest.fixture
def stage(tmp_path):
    return Stage(tmp_path, tmp_path / "data")


def test_a_volley_is_fired_from_a_process_of_its_own(stage):
    async def run():
        async with serving(Server()) as port:
            return await fire(stage, Plan(port, (QUESTION,), at=tuple(evenly(50.0, 0.2, (0,)))))

    volley = asyncio.run(run())
    assert len(volley.shots) == 10
    assert all(shot.right for shot in volley.shots)
    assert volley.of(1) == []
    assert volley.client_cores > 0.0
    assert volley.service_cores == 0.0  # there is none
    assert volley.told()["faults"] == {}
    assert [round(shot.due - volley.start, 2) for shot in volley.shots] == [n / 50 for n in range(10)]


def test_a_client_that_dies_is_told(stage, monkeypatch):
    monkeypatch.setattr(firing.sys, "executable", "/bin/false")
    with pytest.raises(StageFailed, match="the client did not start"):
        asyncio.run(fire(stage, Plan(1, (QUESTION,), at=((0.0, 0),))))


def test_late_shots_and_faults_are_told():
    shots = (Shot(0, 1.0, 1.5, 2.0, 0, "TimeoutError", False, 0.0), Shot(0, 1.0, 1.0, 2.0, 200, "", False, 1.0))
    told = firing.Volley(shots, 1.0, 1.0, 0.1, 0.5).told()
    assert told["client late, seconds"]["max"] == 0.5
    assert told["faults"] == {"TimeoutError": 1}


def test_the_processor_time_of_a_process_grows_as_it_works():
    before = cpu_seconds([os.getpid()])
    end = time.process_time() + 0.05
    while time.process_time() < end:
        pass
    assert cpu_seconds([os.getpid()]) > before
    assert cpu_seconds([2**22 + 1]) == 0.0  # there is no such process


def test_even_shots_take_the_questions_in_turn():
    assert evenly(2.0, 2.0, (4, 7)) == [(0.0, 4), (0.5, 7), (1.0, 4), (1.5, 7)]


def test_random_shots_are_as_many_as_the_rate_says_and_the_same_for_a_seed():
    shots = randomly(100.0, 50.0, (0, 1), random.Random(5))
    assert shots == randomly(100.0, 50.0, (0, 1), random.Random(5))
    assert abs(len(shots) / 5000 - 1) < 0.05
    assert all(0 <= at < 50 for at, _ in shots)
    assert [question for _, question in shots[:4]] == [0, 1, 0, 1]
