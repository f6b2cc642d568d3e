import asyncio
import os
import subprocess
import sys

import httpx2
import pytest

from loadtests.proofs import stage as module
from loadtests.proofs.stage import Stage, StageFailed, staged
from serving.premises import MARK, run_folder

SLEEPER = "import sys, time; print('up', flush=True); time.sleep(600)"


@pytest.fixture
def stage(tmp_path):
    held = Stage(tmp_path / "backbone", tmp_path / "data")
    held.data.mkdir()
    held.log.touch()
    return held


def sleeper(data, *words):
    """A process as the service of a data folder has them."""
    environment = {**os.environ, MARK: str(run_folder(data))}
    process = subprocess.Popen([sys.executable, "-c", SLEEPER, *words], env=environment, stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"up\n"
    return process


def test_a_kill_ends_all_processes_of_the_service_and_no_others(stage, tmp_path):
    own = [sleeper(stage.data, "Engine"), sleeper(stage.data, "Gateway")]
    other = sleeper(tmp_path / "other", "Engine")
    stage.process = own[0]
    assert stage.pids() == sorted(process.pid for process in own)
    assert stage.pids("Gateway") == [own[1].pid]
    stage.kill()
    assert [process.wait(60) for process in own] == [-9, -9]
    assert other.poll() is None
    assert stage.pids() == []
    other.kill()
    other.wait(60)
    for process in (*own, other):
        process.stdout.close()


def test_a_service_that_ends_by_itself_tells_why(tmp_path):
    stage = Stage(tmp_path / "no backbone", tmp_path / "data")
    with pytest.raises(StageFailed, match=r"(?s)the service did not start:.*no backbone"), staged(stage):
        pass
    assert stage.process.poll() is not None


@pytest.mark.parametrize("end", [KeyboardInterrupt, SystemExit, RuntimeError])
def test_a_service_that_is_killed_leaves_no_run_folder(stage, tmp_path, end, monkeypatch):
    run = tmp_path / "run"
    run.mkdir()
    monkeypatch.setattr(module, "run_folder", lambda data: run if data == stage.data else None)
    monkeypatch.setattr(Stage, "start", lambda _: None)
    with pytest.raises(end), staged(stage):
        raise end
    assert not run.exists()


class Answers:
    """What a service tells of itself, and what it was asked with."""

    def __init__(self, replicas=(True,), status=200):
        self.replicas, self.status, self.keys = replicas, status, []

    def get(self, url, headers=None):
        self.keys.append((headers or {}).get("Authorization"))
        if self.status == 0:
            raise httpx2.ConnectError("nobody listens")
        status = 200 if url.endswith("/v1/residency") else self.status
        return httpx2.Response(status, json={"replicas": [{"ready": ready} for ready in self.replicas]})


@pytest.mark.parametrize(
    ("answers", "word", "ready"),
    [
        (Answers(), "serving", True),
        (Answers(), "draining", False),
        (Answers(replicas=()), "serving", False),
        (Answers(replicas=(False,)), "serving", False),
        (Answers(status=503), "serving", False),
        (Answers(status=0), "serving", False),
    ],
    ids=["all", "not-yet", "no-engine", "lost-engine", "not-ready", "nobody"],
)
def test_a_service_is_ready_once_every_engine_answers_and_the_start_is_over(stage, monkeypatch, answers, word, ready):
    monkeypatch.setattr(stage, "_asking", answers)
    stage.log.write_text(f'{{"message": "starting"}}\n{{"message": "{word}"}}\n')
    assert stage.ready() is ready


def test_the_key_is_shown_to_the_service_and_to_nobody_who_does_not_ask(stage, monkeypatch):
    answers = Answers()
    monkeypatch.setattr(stage, "_asking", answers)
    stage.key = "secret"
    stage.ready()
    assert answers.keys == [None, "Bearer secret"]

    async def headers(key=None):
        async with stage.session(key=key) as session:
            return session.headers.get("Authorization")

    assert asyncio.run(headers()) == "Bearer secret"
    assert asyncio.run(headers("another")) == "Bearer another"
