"""What no version refers to goes, and nothing else: not the young, not the lately retired, not another registry's."""

import asyncio
import itertools
import multiprocessing
import os
import time

import pytest
from sqlalchemy import update

from serving.errors import Conflict, NotReady
from serving.registry import garbage
from serving.registry.garbage import Collected, collect
from serving.registry.tables import ORIGIN
from tests.serving.registry.effects import DISK, Statements, die, fail
from tests.serving.registry.given import ACME, digest_of, open_registry, report_of, url_of

DAY = 86_400.0
SERVER = multiprocessing.get_context("forkserver")


def put(registry, data, *, age=0.0):
    upload = registry.blobs.receive()
    upload.write(data)
    registry.blobs.keep(upload)
    upload.discard()
    at = time.time() - age
    os.utime(registry.blobs.path(upload.digest), (at, at))
    return upload.digest


def name(registry, data, called="ada"):
    registry.catalog.add_version(ACME, "adapter", called, report_of(data), promote=False)


def gc(registry, **how):
    return collect(registry.database, registry.blobs, **how)


def held(registry):
    return {stored.digest for stored in registry.blobs.digests()}


def test_old_blobs_without_a_version_go_and_the_others_stay(registry):
    used, forgotten, young = (
        put(registry, b"used", age=9 * DAY),
        put(registry, b"old", age=2 * DAY),
        put(registry, b"new"),
    )
    name(registry, b"used")
    assert gc(registry) == Collected(removed=1, removed_bytes=3, kept=1, young=1, uploads=0)
    assert held(registry) == {used, young} and forgotten not in held(registry)
    assert gc(registry) == Collected(0, 0, 1, 1, 0)


def test_a_dry_run_says_the_same_and_removes_nothing(registry):
    digests = {put(registry, b"%d" % number, age=2 * DAY) for number in range(40)}
    name(registry, b"0")
    revision = registry.catalog.since(0).revision
    told = gc(registry, dry_run=True)
    assert held(registry) == digests and told.removed == 39
    assert registry.catalog.since(0).revision == revision
    assert gc(registry) == told and held(registry) == {digest_of(b"0")}


def test_bytes_of_a_version_that_was_retired_a_moment_ago_stay_for_requests_on_their_way(registry):
    digest = put(registry, b"used", age=9 * DAY)
    name(registry, b"used")
    registry.catalog.delete(ACME, "adapter", "ada", 1)
    assert gc(registry).kept == 1 and held(registry) == {digest}
    assert gc(registry, clock=lambda: time.time() + 2 * DAY).removed == 1


def test_bytes_that_another_name_has_stay(registry):
    put(registry, b"shared", age=9 * DAY)
    name(registry, b"shared")
    name(registry, b"shared", "bob")
    registry.catalog.delete(ACME, "adapter", "ada", None)
    assert gc(registry, clock=lambda: time.time() + 9 * DAY).removed == 0


def test_another_registry_with_a_digest_in_common_removes_nothing(registry, tmp_path):
    live = {put(registry, b"live %d" % number, age=9 * DAY) for number in range(3)}
    for number in range(3):
        name(registry, b"live %d" % number, f"n{number}")
    forgotten = open_registry(tmp_path, url=f"sqlite:///{tmp_path / 'forgotten.sqlite'}")
    name(forgotten, b"live 0")
    for how in ({}, {"dry_run": True}):
        with pytest.raises(Conflict, match="these blobs belong to the registry") as caught:
            gc(forgotten, **how)
        assert caught.value.code == "other_registry" and held(registry) == live
    assert gc(registry).kept == 3
    forgotten.database.close()


def test_blobs_that_nobody_claimed_are_collected_only_by_who_says_so(registry, tmp_path):
    put(registry, b"whose", age=9 * DAY)
    (tmp_path / "blobs" / "owner").unlink()
    with pytest.raises(Conflict, match="no registry has claimed these blobs"):
        gc(registry)
    assert gc(registry, unknown=True, dry_run=True).removed == 1 and registry.blobs.owner() is None
    assert gc(registry, unknown=True).removed == 1
    put(registry, b"ours now", age=9 * DAY)
    assert gc(registry).removed == 1


def test_a_release_that_came_a_moment_ago_waits_until_the_one_before_is_gone(registry):
    digest = put(registry, b"old", age=9 * DAY)
    with registry.database.write() as write:
        write.connection.execute(update(ORIGIN).values(since=time.time() - 3600.0))
    try:
        with pytest.raises(Conflict, match="release before") as caught:
            gc(registry)
        assert caught.value.code == "release_overlap" and held(registry) == {digest}
        assert gc(registry, grace_s=1800.0).removed == 1
    finally:
        with registry.database.write() as write:  # the tests share this row
            write.connection.execute(update(ORIGIN).values(since=0.0))


def test_what_was_half_received_by_the_dead_goes_too(registry, tmp_path):
    (tmp_path / "blobs" / "uploads" / "dead.part").write_bytes(b"half")
    living = registry.blobs.receive()
    assert gc(registry, dry_run=True).uploads == 0
    assert gc(registry).uploads == 1 and living.path.exists()
    living.discard()


def test_others_write_while_blobs_are_deleted(registry, monkeypatch):
    put(registry, b"old", age=2 * DAY)
    delete = registry.blobs.delete

    def slowly(digest, *, before):
        asyncio.run(registry.publish(b"something else"))
        return delete(digest, before=before)

    monkeypatch.setattr(registry.blobs, "delete", slowly)
    assert gc(registry).removed == 1
    assert held(registry) == {digest_of(b"something else")}


def test_a_slow_store_has_what_is_left_marked_anew(registry, monkeypatch):
    digests = {put(registry, b"%d" % number, age=2 * DAY) for number in range(7)}
    now, delete, marks = [time.time()], registry.blobs.delete, []
    mark = garbage.doom.mark

    def marked(write, doomed, until):
        marks.append((len(doomed), until - now[0]))
        mark(write, doomed, until)

    def slowly(digest, *, before):
        now[0] += 25.0
        return delete(digest, before=before)

    monkeypatch.setattr(garbage.doom, "mark", marked)
    monkeypatch.setattr(registry.blobs, "delete", slowly)
    assert gc(registry, clock=lambda: now[0]).removed == len(digests)
    assert marks == [(7, 60.0), (4, 60.0), (1, 60.0)]


def test_a_collector_that_was_stopped_for_too_long_says_what_it_did(registry, monkeypatch):
    digest = put(registry, b"old", age=2 * DAY)
    now, delete = [time.time()], registry.blobs.delete
    monkeypatch.setattr(registry.catalog, "_clock", lambda: now[0])

    def stopped(digest, *, before):
        now[0] += 3600.0
        asyncio.run(registry.publish(b"old"))
        registry.blobs.path(digest).unlink()
        delete(digest, before=before)
        return True

    monkeypatch.setattr(registry.blobs, "delete", stopped)
    gc(registry, clock=lambda: now[0])
    (version,) = registry.catalog.since(0).names["acme", "adapter", "ada"].versions
    assert version.ref.digest == digest and "lost the bytes" in version.quarantined
    asyncio.run(registry.publish(b"old"))
    assert registry.blobs.verify(digest)


def test_a_store_that_gives_up_on_the_way_loses_nothing_and_the_next_run_ends_it(registry, monkeypatch):
    name(registry, b"0")
    digests = {put(registry, b"%d" % number, age=2 * DAY) for number in range(40)}
    delete, calls = registry.blobs.delete, []

    def flaky(digest, *, before):
        calls.append(digest)
        if len(calls) == 20:
            raise NotReady("away", code="storage_unavailable")
        return delete(digest, before=before)

    monkeypatch.setattr(registry.blobs, "delete", flaky)
    with pytest.raises(NotReady):
        gc(registry)
    assert digest_of(b"0") in held(registry) and 20 < len(held(registry)) < len(digests)
    gc(registry)
    assert held(registry) == {digest_of(b"0")}


class Touches(Statements):
    """Statements, and what the store does to the disk."""

    def __enter__(self):
        for module, function in DISK:
            self._wrap(module, function)
        return super().__enter__()


def filled(registry, at):
    """What is in use, and what was forgotten."""
    used = put(registry, b"used %d" % at, age=9 * DAY)
    name(registry, b"used %d" % at, f"used{at}")
    return used, [put(registry, b"old %d.%d" % (at, number), age=9 * DAY) for number in range(2)]


def after_an_end(registry, at, used, old):
    """Whatever became of a collection: what is used is there, what went can be published, and the next one ends it."""
    assert used in held(registry)
    later = time.time() + 61.0
    registry.catalog._clock = lambda: later
    asyncio.run(registry.publish(b"old %d.0" % at, f"again{at}"))
    assert registry.blobs.verify(old[0])
    gc(registry)
    assert held(registry) & {used, *old} == {used, old[0]} and registry.blobs.verify(used)


def test_a_collection_that_fails_at_any_effect_loses_nothing_and_can_be_ended(registry):
    for at in itertools.count(1):
        used, old = filled(registry, at)
        with Touches(registry.database, fail, at) as touches:
            try:
                gc(registry)
            except NotReady as refusal:
                assert refusal.code in ("registry_unavailable", "storage_unavailable")
        after_an_end(registry, at, used, old)
        if len(touches.seen) < at:
            break
    assert at > 15 and touches.seen.count("commit") >= 3


def _collect_and_die(folder, at):
    registry = open_registry(folder)
    with Touches(registry.database, die, at):
        gc(registry)


def test_a_collector_killed_at_any_effect_loses_nothing_and_the_next_one_ends_it(tmp_path):
    SERVER.set_forkserver_preload(["tests.serving.registry.test_garbage"])
    for at in range(1, 100):
        folder = tmp_path / str(at)
        registry = open_registry(folder, url=url_of(folder))
        used, old = filled(registry, at)
        process = SERVER.Process(target=_collect_and_die, args=(folder, at))
        process.start()
        process.join(60)
        after_an_end(registry, at, used, old)
        registry.database.close()
        if process.exitcode == 0:
            break
        assert process.exitcode == -9
    assert at > 15
