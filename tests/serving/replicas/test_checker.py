"""The checker's shell: refusals are answers, because Ray wraps what is raised."""

import asyncio
from pathlib import Path

import pytest

from serving.config import ServiceSettings
from serving.errors import Unprocessable
from serving.replicas import checker
from serving.replicas.checker import CheckerReplica
from tests.serving.samples import PROFILE


class Checks:
    """A checker that refuses what is called bad."""

    def __init__(self, profile, backbone):
        self.profile = profile
        self.backbone = backbone
        self.started = False

    async def start(self):
        self.started = True

    async def check(self, path):
        assert isinstance(path, Path)
        if path.name == "bad":
            raise Unprocessable("bad file")
        if path.name == "bug":
            raise KeyError(path.name)
        return "report"

    async def inspect(self, path, text):
        if path.name == "bad":
            raise Unprocessable("bad file")
        return self, path.name, text

    async def build(self, job, target):
        if job == "bad":
            raise Unprocessable("bad job")
        target.write_bytes(b"made")


@pytest.fixture
def made(monkeypatch, tmp_path):
    monkeypatch.setattr(checker, "Checker", Checks)
    monkeypatch.setattr(checker, "settle", lambda *_: "c1")

    async def make():
        return CheckerReplica(ServiceSettings(backbone=tmp_path, data=tmp_path), PROFILE)

    return make


def test_a_report_and_a_refusal_are_both_returned(made):
    async def main():
        replica = await made()
        assert await replica.check("/uploads/good") == "report"
        refusal = await replica.check("/uploads/bad")
        assert (type(refusal), refusal.detail) == (Unprocessable, "bad file")

    asyncio.run(main())


def test_a_matrix_is_written_or_its_refusal_returned(made, tmp_path):
    async def main():
        replica = await made()
        assert replica._checker.backbone == tmp_path
        assert await replica.build("good", str(tmp_path / "made")) is None
        assert (tmp_path / "made").read_bytes() == b"made"
        assert (await replica.build("bad", str(tmp_path / "made"))).detail == "bad job"

    asyncio.run(main())


def test_dry_runs_have_a_worker_of_their_own_that_is_started_by_none_but_them(made):
    async def main():
        replica = await made()
        worker, name, text = await replica.inspect("/uploads/good", "hello")
        assert (name, text) == ("good", "hello")
        assert worker is not replica._checker
        assert not worker.started
        assert (await replica.inspect("/uploads/bad", "hello")).detail == "bad file"

    asyncio.run(main())


def test_a_bug_is_raised(made):
    async def main():
        with pytest.raises(KeyError):
            await (await made()).check("/uploads/bug")

    asyncio.run(main())


def test_the_worker_starts_ahead_of_the_first_upload(made):
    async def main():
        replica = await made()
        await asyncio.sleep(0)
        assert replica._checker.started
        assert replica._checker.profile == PROFILE

    asyncio.run(main())
