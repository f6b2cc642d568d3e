"""Publishing processes that are killed, with a checker that believes everything: what the proof does, in seconds."""

import asyncio
import multiprocessing
import random
from dataclasses import replace

import pytest

from loadtests.proofs.checker_socket import CheckerSocket
from loadtests.proofs.ledger import Ledger, judge, starts
from loadtests.proofs.publishing_process import TENANT, Work, live, name_of, once_of, package_at
from serving.registry.blobs.local import LocalBlobs
from tests.serving.registry.given import TrustingChecker, open_registry

CLIENTS, ITEMS, NAMES = 3, 25, 4
SERVER = multiprocessing.get_context("forkserver")


@pytest.fixture
def work(tmp_path):
    packages = tmp_path / "packages"
    packages.mkdir()
    for client in range(CLIENTS):
        for item in range(ITEMS):
            package_at(packages, client, item).write_bytes(b"client %d item %d" % (client, item))
    return Work(tmp_path / "data", packages, tmp_path / "checker", tmp_path / "ledger", 0, (0,) * CLIENTS, ITEMS, NAMES)


async def lives(work, kills, dice):
    """Kill a publishing process some times, then let one finish."""
    SERVER.set_forkserver_preload(["loadtests.proofs.publishing_process"])
    ledger, socket = Ledger(work.ledger), CheckerSocket(TrustingChecker(), work.socket)
    codes = []
    try:
        for life in range(kills + 1):
            begun = replace(work, life=life, starts=starts(ledger.read(), CLIENTS))
            process = SERVER.Process(target=live, args=(begun,))
            process.start()
            wanted = len(ledger) + dice.randint(1, 6)
            while life < kills and process.is_alive() and len(ledger) < wanted:  # noqa: ASYNC110 - a file
                await asyncio.sleep(0)
            if life < kills:
                process.kill()
            await asyncio.to_thread(process.join)
            codes.append(process.exitcode)
    finally:
        socket.close()
    return codes, ledger.read()


def stored_in(folder):
    registry = open_registry(folder)
    delta = registry.catalog.since(0)
    held = {
        name: {v.ref.version: v.ref.digest for v in record.versions} for (_, _, name), record in delta.names.items()
    }
    tenants = {tenant for tenant, _, _ in delta.names}
    sound = all(registry.blobs.verify(digest) for versions in held.values() for digest in versions.values())
    registry.database.close()
    return held, tenants, sound


def test_what_was_acknowledged_before_a_kill_is_there_and_what_was_not_is_done_once(work):
    codes, acks = asyncio.run(lives(work, kills=8, dice=random.Random(1)))
    assert codes == [-9] * 8 + [0]
    stored, tenants, sound = stored_in(work.data)
    assert set(vars(judge(acks, stored)).values()) == {0}
    assert sound
    assert tenants == {TENANT}
    assert sorted((ack.client, ack.item) for ack in acks) == [(c, i) for c in range(CLIENTS) for i in range(ITEMS)]
    assert len({ack.life for ack in acks}) > 4
    blobs = LocalBlobs(work.data / "blobs")
    blobs.sweep()
    assert blobs.check() == ()


def test_clients_meet_in_every_name_and_every_second_package_has_a_key():
    assert {name_of(client, item, NAMES) for client in range(2) for item in range(NAMES)} == {
        name_of(0, item, NAMES) for item in range(NAMES)
    }
    assert name_of(1, 0, NAMES) == name_of(0, 1, NAMES)
    assert [once_of(0, item) is None for item in range(4)] == [False, True, False, True]
    assert len({once_of(client, item) for client in range(3) for item in (0, 2)}) == 6
