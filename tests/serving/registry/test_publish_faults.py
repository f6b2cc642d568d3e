"""Every effect of a publish fails or kills once; the same request again, with its key, makes exactly one version."""

import asyncio
import multiprocessing

import pytest

from serving.errors import ServiceError
from serving.registry.records import Once
from tests.serving.registry.effects import Effects, die, fail
from tests.serving.registry.given import ACME, digest_of, fresh_data, open_registry, stream

SERVER = multiprocessing.get_context("forkserver")


@pytest.fixture(scope="module", autouse=True)
def warm_processes():
    SERVER.set_forkserver_preload(["tests.serving.registry.given"])


@pytest.fixture
def registry(tmp_path):
    opened = open_registry(tmp_path)
    asyncio.run(opened.publish(b"the first", promote=True))
    yield opened
    opened.database.close()


def once_of(key):
    return lambda digest: Once.of(key, method="PUT", path="/v1/adapters/ada", query="promote=true", digest=digest)


def put(registry, data, key):
    publish = registry.publisher.publish
    return asyncio.run(publish(ACME, "adapter", "ada", stream(data), promote=True, once=once_of(key)))


def record_of(registry):
    return registry.catalog.since(0).names["acme", "adapter", "ada"]


def holding(registry, data):
    return [version for version in record_of(registry).versions if version.ref.digest == digest_of(data)]


def clear(registry):
    """What one cannot remove is swept when its process is gone; here the process lives."""
    for path in registry.uploads():
        path.unlink()


def audit_of(registry, number):
    entries = registry.catalog.history("acme", "adapter", "ada")
    return [entry.action for entry in entries if entry.subject == f"ada@{number}" and entry.action == "publish"]


def test_after_a_fault_at_any_effect_the_same_request_makes_exactly_one_version(registry):
    acknowledged, struck = [], set()
    for at in range(1, 200):
        data, key = fresh_data(registry.blobs), f"key {at}"
        with Effects(registry, fail, at) as effects:
            try:
                first = put(registry, data, key)
            except (ServiceError, OSError):
                first = None
        if len(effects.seen) < at:
            break
        struck.add(effects.seen[at - 1])
        clear(registry)
        held = holding(registry, data)
        assert len(held) == (first is not None), f"{effects.seen[at - 1]} (effect {at})"
        again = put(registry, data, key)
        assert again.created
        assert again.replayed == (first is not None), f"{effects.seen[at - 1]} (effect {at})"
        assert [version.ref for version in holding(registry, data)] == [again.version.ref]
        assert first is None or first.version == again.version
        assert audit_of(registry, again.version.ref.version) == ["publish"]
        assert record_of(registry).aliases["prod"] == again.version.ref.version
        assert registry.uploads() == []
        acknowledged.append(first is not None)
    assert acknowledged.count(False) > 10
    assert {"open", "read", "write", "fsync", "link", "commit"} <= struck
    assert any(acknowledged)
    numbers = [version.ref.version for version in record_of(registry).versions]
    assert numbers == list(range(1, len(numbers) + 1))


def _put_and_die(folder, data, key, at):
    registry = open_registry(folder)
    with Effects(registry, die, at):
        put(registry, data, key)


def test_after_a_kill_at_any_effect_the_same_request_makes_exactly_one_version(registry, tmp_path):
    outcomes = []
    for at in range(1, 200):
        data, key = fresh_data(registry.blobs), f"key {at}"
        process = SERVER.Process(target=_put_and_die, args=(tmp_path, data, key, at))
        process.start()
        process.join(60)
        there = bool(holding(registry, data))
        again = put(registry, data, key)
        assert again.replayed == there, f"effect {at}"
        assert [version.ref for version in holding(registry, data)] == [again.version.ref]
        assert audit_of(registry, again.version.ref.version) == ["publish"]
        assert registry.blobs.verify(digest_of(data))
        registry.blobs.sweep()
        assert registry.uploads() == []
        outcomes.append(there)
        if process.exitcode == 0:
            break
        assert process.exitcode == -9
    assert outcomes == sorted(outcomes)  # from one effect on, the version is there
    assert 10 < outcomes.index(True) < len(outcomes) - 1


@pytest.mark.parametrize("write", ["set_alias", "set_tags", "gate_failed", "delete"])
def test_the_other_writes_happen_whole_or_not_at_all(registry, write):
    asyncio.run(registry.publish(b"the second"))
    calls = {
        "set_alias": lambda p, n: p.set_alias(ACME, "adapter", "ada", "canary", 1 + n % 2, if_match=None),
        "set_tags": lambda p, n: p.set_tags(ACME, "adapter", "ada", 1, {"run": str(n)}),
        "gate_failed": lambda p, n: p.gate_failed(ACME, "adapter", "ada", 2, f"reason {n}"),
        "delete": lambda p, n: p.delete(ACME, "adapter", "ada", record_of(registry).versions[-1].ref.version),
    }
    refused = 0
    for at in range(1, 60):
        if write == "delete":
            asyncio.run(registry.publish(fresh_data(registry.blobs)))
        before = (record_of(registry), len(registry.catalog.history("acme", "adapter", "ada")))
        with Effects(registry, fail, at) as effects:
            try:
                asyncio.run(calls[write](registry.publisher, at))
                done = True
            except ServiceError:
                done = False
        if len(effects.seen) < at:
            break
        after = (record_of(registry), len(registry.catalog.history("acme", "adapter", "ada")))
        assert (after != before) == done, f"{effects.seen[at - 1]} (effect {at})"
        assert after[1] - before[1] == int(done), f"{effects.seen[at - 1]} (effect {at})"
        refused += not done
    assert refused > 2


def test_a_replay_that_can_not_be_looked_up_is_refused_and_never_done_twice(registry):
    data = fresh_data(registry.blobs)
    first = put(registry, data, "k")
    refused = 0
    for at in range(1, 100):
        with Effects(registry, fail, at) as effects:
            try:
                told = put(registry, data, "k")
                assert (told.replayed, told.version) == (True, first.version)
            except (ServiceError, OSError):
                refused += 1
        if len(effects.seen) < at:
            break
        clear(registry)
        assert [version.ref for version in holding(registry, data)] == [first.version.ref]
    assert refused > 3
    assert audit_of(registry, first.version.ref.version) == ["publish"]
