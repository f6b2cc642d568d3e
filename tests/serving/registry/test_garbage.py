"""What no version refers to goes, and nothing else: not the young, not the lately retired, not another registry's."""

import os
import time

import pytest

from serving.errors import Conflict, NotReady
from serving.registry.garbage import Collected, collect
from tests.serving.registry.given import ACME, digest_of, report_of

DAY = 86_400.0


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
    told = gc(registry, dry_run=True)
    assert held(registry) == digests and told.removed == 39
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


def test_a_registry_that_never_heard_of_any_blob_is_not_believed(registry):
    put(registry, b"another service's", age=9 * DAY)
    with pytest.raises(Conflict, match="never heard of any of the 1 blobs") as caught:
        gc(registry)
    assert caught.value.code == "other_registry" and len(held(registry)) == 1
    assert gc(registry, unknown=True).removed == 1


def test_what_was_half_received_by_the_dead_goes_too(registry, tmp_path):
    (tmp_path / "blobs" / "uploads" / "dead.part").write_bytes(b"half")
    living = registry.blobs.receive()
    assert gc(registry, dry_run=True).uploads == 0
    assert gc(registry).uploads == 1 and living.path.exists()
    living.discard()


def test_blobs_are_deleted_while_nobody_else_can_write(registry, monkeypatch):
    put(registry, b"kept", age=2 * DAY)
    put(registry, b"old", age=2 * DAY)
    name(registry, b"kept")
    delete, writing = registry.blobs.delete, []

    def watched(digest, *, before):
        with registry.database.read() as connection:
            writing.append(connection.exec_driver_sql("SELECT revision FROM meta").scalar_one())
        return delete(digest, before=before)

    monkeypatch.setattr(registry.blobs, "delete", watched)
    seen = registry.catalog.since(0).revision
    assert gc(registry).removed == 1
    assert writing == [seen] and registry.catalog.since(0).revision == seen + 1  # the write was open meanwhile


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
