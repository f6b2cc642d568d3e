"""Copies of remote blobs: brought once, verified whenever they are used, and under a budget."""

import os
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from serving.errors import NotReady
from serving.registry.blobs.downloads import Downloads
from serving.registry.blobs.refusals import away
from tests.serving.registry.given import digest_of


class Clock:
    now = 1_000_000.0

    def __call__(self):
        return self.now


class Afar:
    def __init__(self, *contents):
        self.held = {digest_of(data): data for data in contents}
        self.brought = []

    def __call__(self, digest, target):
        self.brought.append(digest)
        target.write_bytes(self.held[digest])


@pytest.fixture
def clock():
    return Clock()


def test_a_copy_is_brought_once(tmp_path, clock):
    afar = Afar(b"one")
    copies = Downloads(tmp_path / "copies", 100, afar, clock)
    digest = digest_of(b"one")
    assert copies.get(digest) == copies.get(digest) == copies.path(digest)
    assert copies.path(digest).read_bytes() == b"one" and afar.brought == [digest]


def test_a_copy_that_an_earlier_process_brought_is_used_and_one_that_rotted_is_not(tmp_path, clock):
    digest = digest_of(b"one")
    Downloads(tmp_path, 100, Afar(b"one"), clock).get(digest)
    afar = Afar(b"one")
    copies = Downloads(tmp_path, 100, afar, clock)
    assert copies.get(digest).read_bytes() == b"one" and afar.brought == []
    copies.path(digest).write_bytes(b"0ne")
    assert copies.get(digest).read_bytes() == b"one" and afar.brought == [digest]


def test_threads_that_ask_at_once_wait_for_one_that_brings(tmp_path, clock):
    afar, asked = Afar(b"one"), threading.Semaphore(0)
    digest = digest_of(b"one")

    def bring(wanted, target):
        for _ in range(7):
            asked.acquire()  # all others have come
        afar(wanted, target)

    copies = Downloads(tmp_path, 100, bring, clock)

    def ask(_):
        asked.release()
        return copies.get(digest).read_bytes()

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(ask, range(8))) == [b"one"] * 8
    assert afar.brought == [digest] and copies.check() == ()


def test_a_failure_is_the_failure_of_one_and_the_next_tries_again(tmp_path, clock):
    afar = Afar(b"one")

    def bring(digest, target):
        if not afar.brought:
            afar.brought.append("failed")
            raise away("for a moment")
        afar(digest, target)

    copies = Downloads(tmp_path, 100, bring, clock)
    with pytest.raises(NotReady):
        copies.get(digest_of(b"one"))
    assert copies.check() == ()
    assert copies.get(digest_of(b"one")).read_bytes() == b"one"


def test_the_longest_unused_go_but_none_that_was_handed_out_a_moment_ago(tmp_path, clock):
    data = [b"aaaa", b"bbbb", b"cccc", b"dddd"]
    digests = [digest_of(item) for item in data]
    copies = Downloads(tmp_path, 10, Afar(*data), clock)
    for digest in digests[:2]:
        copies.get(digest)
        clock.now += 100
    copies.get(digests[0])
    copies.get(digests[2])
    assert [copies.path(digest).exists() for digest in digests] == [True, False, True, False]
    copies.get(digests[3])  # all others were used within the last minute
    assert [copies.path(digest).exists() for digest in digests] == [True, False, True, True]


def test_what_was_made_here_is_adopted_and_what_can_not_be_linked_is_brought_later(tmp_path, clock, monkeypatch):
    made = tmp_path / "made"
    made.write_bytes(b"one")
    afar = Afar(b"one")
    copies = Downloads(tmp_path / "copies", 100, afar, clock)
    copies.adopt(digest_of(b"one"), made, tmp_path / "aside")
    copies.adopt(digest_of(b"one"), made, tmp_path / "aside")  # both names are of one file by now
    assert not (tmp_path / "aside").exists()
    made.unlink()
    assert copies.get(digest_of(b"one")).read_bytes() == b"one" and afar.brought == []
    monkeypatch.setattr(os, "link", lambda *_: (_ for _ in ()).throw(OSError("no links here")))
    copies.adopt(digest_of(b"one"), made, tmp_path / "aside")
    copies.path(digest_of(b"one")).unlink()
    assert copies.get(digest_of(b"one")).read_bytes() == b"one" and afar.brought == [digest_of(b"one")]


def test_who_was_handed_a_copy_finds_it_at_every_moment_of_an_adoption(tmp_path, clock, monkeypatch):
    made = tmp_path / "made"
    made.write_bytes(b"one")
    copies = Downloads(tmp_path / "copies", 100, Afar(b"one"), clock)
    handed, found = copies.get(digest_of(b"one")), []

    def watched(call):
        def touched(*names, **how):
            found.append(handed.read_bytes())
            done = call(*names, **how)
            found.append(handed.read_bytes())
            return done

        return touched

    for name in ("link", "unlink", "replace"):
        monkeypatch.setattr(os, name, watched(getattr(os, name)))
    copies.adopt(digest_of(b"one"), made, tmp_path / "aside")
    monkeypatch.undo()
    assert set(found) == {b"one"} and len(found) >= 4
    assert handed.stat().st_ino == made.stat().st_ino


def test_what_is_no_copy_is_told_and_never_removed(tmp_path, clock):
    copies = Downloads(tmp_path, 1, Afar(b"one"), clock)
    (tmp_path / "README").write_text("not ours, and larger than the budget")
    copies.get(digest_of(b"one"))
    assert copies.check() == ("downloads: README is no copy",) and (tmp_path / "README").exists()
