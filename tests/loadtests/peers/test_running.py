import json
import os
import sys
import time
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import pytest

from loadtests.peers import running
from loadtests.peers.contenders import BF16, CHORUS, FP32, LORA, MIXED, PACKED, PADDED, SORTED, contenders
from loadtests.peers.messages import line
from loadtests.peers.process import PeerFailed
from loadtests.peers.running import Settings, Start, run
from loadtests.peers.worker import Worker
from tests.loadtests.conftest import TINY


@pytest.fixture
def settings(monkeypatch, tmp_path):
    """Chorus and transformers on the smallest BERT; both run in the environment of these tests."""
    monkeypatch.setattr(running, "interpreter", lambda library, cache: Path(sys.executable))
    monkeypatch.setattr(running, "BACKBONES", {"tiny": lambda cache: TINY})
    chosen = contenders(["transformers"], [BF16], [LORA])
    return Settings("tiny", chosen, (LORA,), rows=5, rounds=2, threads=1, seed=0, cache=tmp_path / "cache")


class Inside:
    """A library's process that is none: it works in this one."""

    def __init__(self, name, command, environment, cores, log):
        self.name, self.open = name, True
        module = import_module(f"loadtests.peers.{command[-1]}")
        self.worker = Worker(module.opened, time.perf_counter)

    def ask(self, message):
        try:
            answer = self.worker.answer(json.loads(line(message)))
        except KeyError as error:
            raise PeerFailed(self.name, repr(error)) from error
        return json.loads(line(answer))

    def close(self):
        self.open = False


@pytest.fixture
def inside(monkeypatch):
    """Every process that was started, all of them in this one."""
    made = []
    monkeypatch.setattr(running, "PeerProcess", lambda *given: made.append(Inside(*given)) or made[-1])
    return made


def start(tmp_path, told):
    (tmp_path / "run").mkdir()
    return Start(tmp_path / "run", dict(os.environ), told.append)


def test_everyone_is_opened_compared_and_met(settings, tmp_path):
    told = []
    found = run(settings, start(tmp_path, told))
    assert {(one.contender.library, one.contender.way) for one in found.standings} == {
        (CHORUS, MIXED),
        (CHORUS, PACKED),
        ("transformers", PADDED),
        ("transformers", SORTED),
    }
    assert found.wrong() == ()
    assert all(len(one.seconds) == 2 and min(one.seconds) > 0 for one in found.standings)
    assert all(0 < one.agreement.distance < 1 for one in found.standings)  # bfloat16 against float32
    assert [one.note for one in found.standings if one.contender.way == SORTED] == ["batches of 4"]
    assert found.versions.keys() == {CHORUS, "transformers"}
    assert told == [
        "tiny: Chorus fp32",  # nobody asked for it: the others are compared with it
        "tiny: Chorus bf16",
        "tiny: transformers bf16",
        "tiny: comparing answers",
        "round 1 of 2",
        "round 2 of 2",
    ]


def test_nobody_is_left_running(settings, inside, tmp_path, monkeypatch):
    monkeypatch.setattr(running, "meet", lambda *given: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run(settings, start(tmp_path, []))
    assert [process.open for process in inside] == [False] * 3


def test_answers_of_the_wrong_adapters_are_seen(settings, inside, tmp_path, monkeypatch):
    def other_adapters(settings, workload, library, precision, cache):
        work = of(settings, workload, library, precision, cache)
        return replace(work, rows=work.rows[::-1]) if precision == BF16 else work

    of = running._work
    monkeypatch.setattr(running, "_work", other_adapters)
    chosen = tuple(one for one in settings.contenders if one.way == MIXED)
    found = run(replace(settings, contenders=chosen), start(tmp_path, []))
    assert [one.contender.precision for one in found.wrong()] == [BF16]


def test_a_library_that_fails_to_run_is_named(settings, inside, tmp_path):
    broken = replace(settings, methods=())
    with pytest.raises(PeerFailed, match="chorus fp32: KeyError"):
        run(broken, start(tmp_path, []))


def test_the_referee_is_chorus_in_float32():
    assert running._processes(contenders(["peft"], [BF16], [LORA]))[0] == (CHORUS, FP32)
    assert len(running._processes(contenders(["peft"], [FP32], [LORA]))) == 2
