"""Several processes at once, and processes that die at every point of a publish."""

import asyncio
import multiprocessing
import os
import random

import pytest

from serving.errors import PreconditionFailed
from tests.serving.registry.effects import Effects, die
from tests.serving.registry.given import ACME, digest_of, fresh_data, open_registry, report_of

SERVER = multiprocessing.get_context("forkserver")


@pytest.fixture(scope="module", autouse=True)
def warm_processes():
    SERVER.set_forkserver_preload(["tests.serving.registry.given"])


def record_of(registry, name="ada"):
    return registry.catalog.since(0).names["acme", "adapter", name]


def _publish_and_die(folder, data, at):
    registry = open_registry(folder)
    with Effects(registry, die, at):
        asyncio.run(registry.publish(data, promote=True))


def test_a_process_killed_at_any_effect_leaves_nothing_or_the_complete_version(tmp_path):
    registry = open_registry(tmp_path)
    asyncio.run(registry.publish(b"the first", promote=True))
    complete = []
    for at in range(1, 200):
        data = fresh_data(registry.blobs)
        process = SERVER.Process(target=_publish_and_die, args=(tmp_path, data, at))
        process.start()
        process.join(60)
        record = record_of(registry)
        held = [version for version in record.versions if version.ref.digest == digest_of(data)]
        assert record.aliases["prod"] == record.versions[-1].ref.version
        assert all(registry.blobs.verify(version.ref.digest) for version in record.versions)
        registry.blobs.sweep()
        assert registry.uploads() == []
        complete.append(bool(held))
        if process.exitcode == 0:
            break
        assert process.exitcode == -9
    assert complete == sorted(complete)  # from one effect on, the version is there
    assert 10 < complete.index(True) < len(complete) - 1
    registry.database.close()


def _publish_forever(folder, life, acknowledged):
    registry = open_registry(folder)
    for number in range(10_000):
        data = os.urandom(100)
        published = asyncio.run(registry.publish(data, f"n{life}-{number % 3}", promote=bool(number % 2)))
        ref = published.version.ref
        os.write(acknowledged.fileno(), f"{ref.name} {ref.version} {ref.digest}\n".encode())


def test_no_acknowledged_version_is_lost_in_twenty_kills(tmp_path):
    dice = random.Random(7)
    registry = open_registry(tmp_path)
    ledger = []
    for life in range(20):
        reader, writer = SERVER.Pipe(duplex=False)
        process = SERVER.Process(target=_publish_forever, args=(tmp_path, life, writer))
        process.start()
        writer.close()
        with os.fdopen(os.dup(reader.fileno()), "rb") as lines:
            ledger += [lines.readline() for _ in range(dice.randrange(1, 8))]
            process.kill()
            ledger += lines.readlines()  # acknowledged before the kill came
        process.join()
        reader.close()
    names = registry.catalog.since(0).names
    assert len(ledger) >= 40
    for line in ledger:
        name, version, digest = line.decode().split()
        held = {v.ref.version: v.ref.digest for v in names["acme", "adapter", name].versions}
        assert held[int(version)] == digest
        assert registry.blobs.verify(digest)
    for record in names.values():
        numbers = [version.ref.version for version in record.versions]
        assert numbers == list(range(1, len(numbers) + 1))
    registry.database.close()


def publish_own_and_shared(folder, who, barrier, answers, url=None):
    barrier.wait()
    registry = open_registry(folder, url=url)
    for number in range(5):
        own = asyncio.run(registry.publish(b"%d of %d" % (number, who)))
        shared = asyncio.run(registry.publish(b"shared %d" % number))
        answers.put([(p.version.ref.version, p.version.ref.digest, p.created) for p in (own, shared)])
    registry.database.close()


def test_processes_that_publish_one_name_at_once_get_one_history(tmp_path):
    barrier, answers = SERVER.Barrier(3), SERVER.Queue()
    processes = [SERVER.Process(target=publish_own_and_shared, args=(tmp_path, n, barrier, answers)) for n in range(3)]
    for process in processes:
        process.start()
    told = [item for _ in range(15) for item in answers.get(timeout=60)]
    for process in processes:
        process.join()
    registry = open_registry(tmp_path)
    held = {version.ref.version: version.ref.digest for version in record_of(registry).versions}
    assert sorted(held) == list(range(1, 21))
    assert len(set(held.values())) == 20
    assert all(held[version] == digest for version, digest, _ in told)
    assert sum(created for _, _, created in told) == 20
    registry.database.close()


def _promote_in_turns(folder, barrier, answers):
    registry = open_registry(folder)
    barrier.wait()
    for _ in range(10):
        seen = record_of(registry)
        version = 1 + seen.aliases.get("prod", 0) % 3
        try:
            registry.catalog.set_alias(ACME, "adapter", "ada", "prod", version, if_match=seen.revision)
            answers.put(True)
        except PreconditionFailed:
            answers.put(False)
    registry.database.close()


def test_an_alias_that_many_processes_move_moves_one_step_at_a_time(tmp_path):
    registry = open_registry(tmp_path)
    for data in (b"one", b"two", b"three"):
        registry.catalog.add_version(ACME, "adapter", "ada", report_of(data), promote=False)
    barrier, answers = SERVER.Barrier(3), SERVER.Queue()
    processes = [SERVER.Process(target=_promote_in_turns, args=(tmp_path, barrier, answers)) for _ in range(3)]
    for process in processes:
        process.start()
    moved = sum(answers.get(timeout=60) for _ in range(30))
    for process in processes:
        process.join()
    moves = [entry.detail for entry in registry.catalog.history("acme", "adapter", "ada") if entry.action == "alias"]
    steps = [1 + n % 3 for n in range(moved)]
    expected = [f"version {n}" + (f", was version {steps[i - 1]}" if i else "") for i, n in enumerate(steps)]
    assert moves[::-1] == expected
    assert record_of(registry).aliases["prod"] == steps[-1]
    registry.database.close()
