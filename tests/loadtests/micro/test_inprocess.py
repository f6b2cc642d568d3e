import json
import threading

import numpy as np
import pytest

from loadtests.micro import inprocess
from loadtests.micro.inprocess import Engines, Job, Loop
from loadtests.proofs.backbones import TEXTS, tiny
from loadtests.proofs.fingerprints import Forge
from loadtests.proofs.stage import StageFailed
from serving.request import Refusal, Result, Timing

JOB = Job("b", "p", "sha256:" + "a" * 64, (((1, 2), (3,)), ((4,),)), 3, "float32", (0,))


class Engine:
    """Answers from a thread of its own, until the time that its clock tells is over."""

    def __init__(self, code=None):
        self.now = 0.0
        self.code = code
        self.under_way, self.most, self.ids = 0, 0, []

    def clock(self):
        return self.now

    def submit(self, tickets, sink):
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        self.ids += [ticket.id for ticket in tickets]
        threading.Thread(target=self._answer, args=(tickets, sink)).start()

    def _answer(self, tickets, sink):
        self.now += 0.01
        self.under_way -= 1
        for ticket in tickets:  # one by one: a request is over with its last row
            refused = Refusal(ticket.id, self.code, "no", "e") if self.code else None
            sink((refused or Result(ticket.id, np.zeros(1, np.float32), Timing(0, 0, 0), {}, "e", 1),))


def test_a_job_comes_out_of_its_line_as_it_went_in():
    assert Job.read(JOB.line() + "\n") == JOB


def test_rows_are_counted_after_the_head_start_and_always_as_many_requests_are_under_way():
    engine = Engine()
    found = Loop(engine, JOB, engine.clock).run(2.2)
    assert 1.5 * 98 <= found <= 1.5 * 102  # a request each hundredth of a second, of 2 and of 1 rows
    assert engine.most == JOB.closed
    assert len(set(engine.ids)) == len(engine.ids)


def test_runs_follow_one_another():
    engine = Engine()
    loop = Loop(engine, JOB, engine.clock)
    assert loop.run(1.0) > 0
    assert loop.run(1.0) > 0
    assert len(set(engine.ids)) == len(engine.ids)


def test_a_row_that_is_refused_ends_the_run():
    engine = Engine("overloaded")
    with pytest.raises(RuntimeError, match="refused a row: no"):
        Loop(engine, JOB, engine.clock).run(1.0)


def test_a_real_engine_answers(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(inprocess.os, "sched_setaffinity", lambda *_: None)
    made = Forge(tiny(tmp_path / "m", 0), TEXTS, 0).make("x")
    (tmp_path / "package").write_bytes(made.data)
    job = Job(str(tmp_path / "m"), str(tmp_path / "package"), made.digest, (((2, 5, 3),),), 2, "float32", (0,))
    inprocess.main([job.line(), "0.3", "0.3"])
    ready, *rates = capsys.readouterr().out.split()
    assert ready == "ready"
    assert len(rates) == 2
    assert all(float(rate) > 0 for rate in rates)


def test_it_is_started_as_the_service_starts_its_engines():
    environment = JOB.environment()
    assert environment["OMP_NUM_THREADS"] == "1"
    assert "MALLOC_TRIM_THRESHOLD_" in environment
    assert json.loads(JOB.line())["cores"] == [0]


def test_an_engine_that_does_not_start_is_told_and_none_is_left(tmp_path):
    job = Job(str(tmp_path), str(tmp_path / "package"), "sha256:" + "a" * 64, (((1,),),), 1, "float32", (0,))
    with pytest.raises(StageFailed, match="did not start"), Engines.started(job, 1):
        pass
