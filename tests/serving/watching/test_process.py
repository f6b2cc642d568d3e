"""The process itself: real folders, a real registry, a real checker, and no gateway."""

import asyncio
import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from adapters.formats import native
from adapters.formats.peft import folder as peft
from serving.config import ServiceSettings
from serving.registry.blobs.local import LocalBlobs
from serving.registry.catalog import Catalog
from serving.registry.database import Database
from serving.registry.journal import told_in
from serving.watching.process import ACTOR, watch
from serving.watching.supervisor import told
from tests.adapters import builders


@pytest.fixture
def settings(tmp_path):
    (tmp_path / "watched").mkdir()
    (tmp_path / "data").mkdir()
    return ServiceSettings(builders.folder("bert"), tmp_path / "data", watch=tmp_path / "watched")


def _outcomes(data):
    told = told_in(data)
    return () if told is None else told.outcomes


def names(settings):
    database = Database.open(settings.sql_url)
    try:
        return Catalog(database).since(0).names
    finally:
        database.close()


def history(settings, tenant, name):
    database = Database.open(settings.sql_url)
    try:
        return Catalog(database).history(tenant, "adapter", name)
    finally:
        database.close()


def states(settings):
    return {item.place: item.state for item in _outcomes(settings.data)}


def test_a_folder_and_a_file_are_published_for_their_tenants_by_the_watcher(settings):
    peft.write(builders.package("bert", [builders.lora(bias=False)]), settings.watch / "acme" / "team" / "tone")
    wrong = builders.package("roberta", [builders.lora()])
    (settings.watch / "other").mkdir()
    (settings.watch / "other" / "wrong.safetensors").write_bytes(native.write(wrong))

    async def until_both_are_told():
        stopped = asyncio.Event()
        task = asyncio.create_task(watch(settings, stopped))
        async with asyncio.timeout(90):
            while len(states(settings)) < 2:
                assert not task.done(), task.exception()
                await asyncio.sleep(0.05)
        stopped.set()
        await task

    asyncio.run(until_both_are_told())
    assert states(settings) == {"acme/team/tone": "published", "other/wrong.safetensors": "refused"}
    record = names(settings)["acme", "adapter", "team/tone"]
    assert (len(record.versions), record.aliases, record.versions[0].created_by) == (1, {}, ACTOR)
    assert LocalBlobs(settings.data / "blobs").verify(record.versions[0].ref.digest)
    assert [(entry.action, entry.actor) for entry in history(settings, "acme", "team/tone")] == [("publish", ACTOR)]
    reasons = next(item.reasons for item in _outcomes(settings.data) if item.state == "refused")
    assert any("roberta" in reason for reason in reasons)


def start(settings):
    process = subprocess.Popen(
        [sys.executable, "-m", "serving.watching.process"],
        cwd=Path(__file__).parents[3],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    process.stdin.write(json.dumps(told(settings)).encode() + b"\n")
    process.stdin.flush()
    return process


def test_the_process_watches_until_its_input_ends_and_logs_to_the_data_folder(settings):
    process = start(settings)
    log = settings.data / "logs" / "watch.log"
    deadline = time.monotonic() + 90
    while not (log.is_file() and "watching" in log.read_text()) and time.monotonic() < deadline:
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.05)
    process.stdin.close()
    assert process.wait(60) == 0, process.stderr.read()
    process.stderr.close()
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert (lines[0]["part"], lines[0]["message"]) == ("watch", "watching")


def test_a_registry_that_is_away_ends_the_process_with_its_reason(settings):
    away = replace(settings, database_url="postgresql+psycopg://nobody@127.0.0.1:1/none")
    process = start(away)
    _, complaint = process.communicate(timeout=90)
    assert process.returncode == 1
    assert "can not watch" in (settings.data / "logs" / "watch.log").read_text(), complaint
