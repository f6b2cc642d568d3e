"""Every flipped bit of what is in use is found, told and taken out of service; what is healed comes back."""

import asyncio
import random

import pytest

from serving.errors import NotReady
from serving.registry.blobs.refusals import away
from serving.registry.scrub import Scrubber
from serving.registry.suspicion import REASONS
from tests.serving.registry.given import ACME, digest_of, report_of


def publish(registry, data, name="ada"):
    return asyncio.run(registry.publish(data, name)).version.ref.digest


def scrub(registry, **how):
    return Scrubber(registry.database, registry.blobs, **how).scrub()


def quarantined(registry):
    names = registry.catalog.since(0).names.values()
    return {v.ref.digest: v.quarantined for record in names for v in record.versions if v.quarantined}


def test_a_sound_store_is_sound(registry):
    publish(registry, b"one")
    publish(registry, b"two", "bob")
    publish(registry, b"one", "eve")
    found = scrub(registry)
    assert found.sound and (found.examined, found.nbytes) == (2, 6)
    assert quarantined(registry) == {}


def test_all_of_fifty_flipped_bits_are_found_and_nothing_else(registry):
    dice = random.Random(8)
    digests = []
    for number in range(100):
        data = dice.randbytes(dice.randrange(1, 5000))
        upload = registry.blobs.receive()
        upload.write(data)
        registry.blobs.keep(upload)
        upload.discard()
        registry.catalog.add_version(ACME, "adapter", f"n{number}", report_of(data), promote=False)
        digests.append(upload.digest)
    flipped = dice.sample(digests, 50)
    for digest in flipped:
        path = registry.blobs.path(digest)
        data = bytearray(path.read_bytes())
        data[dice.randrange(len(data))] ^= 1 << dice.randrange(8)
        path.write_bytes(data)
    found = scrub(registry)
    assert set(found.rotten) == set(flipped) and found.examined == 100
    assert (found.lost, found.unreadable, found.lifted, found.sound) == ((), (), (), False)
    assert quarantined(registry) == dict.fromkeys(flipped, REASONS["rotten"])
    assert set(scrub(registry).rotten) == set(flipped)


def test_what_is_lost_is_told_and_what_was_put_back_is_lifted(registry):
    digest = publish(registry, b"one")
    path = registry.blobs.path(digest)
    path.unlink()
    assert scrub(registry).lost == (digest,) and quarantined(registry) == {digest: REASONS["lost"]}
    path.write_bytes(b"one")
    found = scrub(registry)
    assert found.lifted == (digest,) and found.sound and quarantined(registry) == {}


def test_a_quarantine_for_another_reason_stays(registry):
    digest = publish(registry, b"one")
    registry.catalog.quarantine(digest, "the operator does not trust it")
    assert scrub(registry).lifted == () and digest in quarantined(registry)


def test_what_was_retired_and_collected_meanwhile_is_missed_by_nobody(registry, monkeypatch):
    digest = publish(registry, b"one")

    def retired(_):
        if registry.blobs.present(digest):
            registry.catalog.delete(ACME, "adapter", "ada", None)
            registry.blobs.delete(digest, before=float("inf"))
        return "lost"

    monkeypatch.setattr(registry.blobs, "state", retired)
    assert scrub(registry).sound


def test_what_was_published_anew_while_it_was_judged_is_sound(registry, monkeypatch):
    digest = publish(registry, b"one")
    registry.blobs.path(digest).write_bytes(b"0ne")
    quarantine = registry.catalog.quarantine

    def late(accused, reason):
        publish(registry, b"one")
        return quarantine(accused, reason)

    scrubber = Scrubber(registry.database, registry.blobs)
    monkeypatch.setattr(scrubber._catalog, "quarantine", late)
    assert scrubber.scrub().sound and quarantined(registry) == {}


def test_a_blob_that_can_not_be_read_is_told_and_left_as_it_is(registry, monkeypatch):
    bad, good = sorted([publish(registry, b"one"), publish(registry, b"two", "bob")])
    state = registry.blobs.state

    def sector(digest):
        if digest == bad:
            raise away("Input/output error")
        return state(digest)

    monkeypatch.setattr(registry.blobs, "state", sector)
    found = scrub(registry)
    assert (found.unreadable, found.examined, found.sound) == ((bad,), 2, False)
    assert quarantined(registry) == {} and good not in found.unreadable


def test_a_store_that_is_away_ends_the_scrub_and_accuses_nobody(registry, monkeypatch):
    for number in range(5):
        publish(registry, b"%d" % number, f"n{number}")

    def gone(_):
        raise away("no route")

    monkeypatch.setattr(registry.blobs, "state", gone)
    with pytest.raises(NotReady):
        scrub(registry)
    assert quarantined(registry) == {}


def test_the_rate_is_kept_over_the_whole_run(registry):
    now, slept = [0.0], []

    def sleep(seconds):
        slept.append(seconds)
        now[0] += seconds

    for number in range(4):
        publish(registry, b"x" * 10 + b"%d" % number, f"n{number}")
    found = scrub(registry, rate=11.0, clock=lambda: now[0], sleep=sleep)
    assert found.nbytes == 44 and now[0] == pytest.approx(4.0) and len(slept) == 4


def test_names_that_share_bytes_are_read_once(registry, monkeypatch):
    publish(registry, b"one")
    publish(registry, b"one", "bob")
    read = []
    state = registry.blobs.state
    monkeypatch.setattr(registry.blobs, "state", lambda digest: (read.append(digest), state(digest))[1])
    scrub(registry)
    assert read == [digest_of(b"one")]
