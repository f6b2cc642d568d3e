import io
import json

import numpy as np
import pytest

from loadtests.peers.contenders import PADDED
from loadtests.peers.runs import Opened, Run
from loadtests.peers.worker import Worker, serve
from tests.loadtests.peers.conftest import fake_opened


@pytest.fixture
def opening(work):
    return {"do": "open", "work": work.json()}


def test_it_opens_answers_and_times(work, opening, tmp_path):
    worker = Worker(fake_opened, iter(range(100)).__next__)
    assert worker.answer(opening) == {"versions": {"fake": "1"}, "runs": [[PADDED, None]]}
    file = tmp_path / "answers.npy"
    assert worker.answer({"do": "answer", "run": [PADDED, None], "to": str(file)}) == {"note": "a note"}
    assert np.load(file)[:, 0].tolist() == [number for row in work.rows for number in row]
    timed = worker.answer({"do": "time", "run": [PADDED, None], "passes": 3, "warm": False})
    assert timed == {"seconds": [1, 1, 1]}


@pytest.mark.parametrize("warm", [True, False])
def test_a_warm_up_is_not_on_the_clock(opening, warm):
    time = [0.0]

    def go():
        time[0] += 5.0 if time[0] == 0 else 1.0  # the first pass is slow

    worker = Worker(lambda _: Opened({}, {(PADDED, None): Run(go, list)}), lambda: time[0])
    worker.answer(opening)
    found = worker.answer({"do": "time", "run": [PADDED, None], "passes": 2, "warm": warm})
    assert found["seconds"] == ([1.0, 1.0] if warm else [5.0, 1.0])


def test_it_serves_until_its_input_ends(opening):
    out = io.StringIO()
    assert serve(Worker(fake_opened, lambda: 0.0), [json.dumps(opening)], out) == 0
    assert json.loads(out.getvalue())["versions"] == {"fake": "1"}


def test_a_failure_is_told_and_ends_it(opening):
    def broken(work):
        raise RuntimeError(f"no {work.precision} here")

    out = io.StringIO()
    assert serve(Worker(broken, lambda: 0.0), [json.dumps(opening)] * 2, out) == 1
    assert [json.loads(text) for text in out.getvalue().splitlines()] == [{"error": "RuntimeError: no fp32 here"}]


def test_an_unknown_run_is_told(opening):
    out = io.StringIO()
    asked = {"do": "time", "run": ["magic", None], "passes": 1, "warm": False}
    assert serve(Worker(fake_opened, lambda: 0.0), [json.dumps(opening), json.dumps(asked)], out) == 1
    assert "magic" in json.loads(out.getvalue().splitlines()[1])["error"]
