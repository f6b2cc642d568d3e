"""What every blob store promises, whatever it is made of."""

import pytest

from serving.registry.blobs.store import BlobLost, BlobRotten, digest_at, key_of, verified
from tests.serving.registry.given import digest_of

DATA = bytes(range(256)) * 40_000  # 10 MB: several pieces, and an upload in parts


def keep(blobs, data=b"some bytes"):
    upload = blobs.receive()
    try:
        upload.write(data)
        blobs.keep(upload)
        return upload.digest
    finally:
        upload.discard()


def damage(blobs, digest, data):
    """Put other bytes under a digest, behind the store's back."""
    if hasattr(blobs, "path"):
        blobs.path(digest).write_bytes(data)
        return
    upload = blobs.receive()
    upload.write(data)
    upload.flush()
    blobs._bucket.put(key_of(digest), upload.path, create=False)
    blobs._copies.path(digest).unlink(missing_ok=True)
    upload.discard()


def lose(blobs, digest):
    assert blobs.delete(digest, before=float("inf"))
    if not hasattr(blobs, "path"):
        blobs._copies.path(digest).unlink(missing_ok=True)


@pytest.mark.parametrize("data", [b"x", DATA], ids=["small", "large"])
def test_what_was_kept_is_there_verified_listed_and_handed_out(any_blobs, tmp_path, data):
    digest = keep(any_blobs, data)
    assert digest == digest_of(data)
    assert any_blobs.present(digest) and any_blobs.verify(digest) and any_blobs.state(digest) == "sound"
    assert verified(any_blobs, digest).read_bytes() == data
    any_blobs.fetch(digest, tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == data
    (stored,) = any_blobs.digests()
    assert (stored.digest, stored.nbytes) == (digest, len(data))
    assert any_blobs.check() == () and any_blobs.sweep() == 0


def test_the_same_bytes_again_are_the_same_blob(any_blobs):
    assert keep(any_blobs) == keep(any_blobs)
    assert len(list(any_blobs.digests())) == 1


def test_what_was_never_kept_is_lost(any_blobs, tmp_path):
    digest = digest_of(b"nobody's")
    assert not any_blobs.present(digest) and not any_blobs.verify(digest) and any_blobs.state(digest) == "lost"
    for ask in (any_blobs.local, lambda d: verified(any_blobs, d), lambda d: any_blobs.fetch(d, tmp_path / "copy")):
        with pytest.raises(BlobLost, match="publish them again") as caught:
            ask(digest)
        assert (caught.value.digest, caught.value.code, caught.value.status) == (digest, "blob_lost", 424)
    assert not (tmp_path / "copy").exists() and any_blobs.check() == ()


@pytest.mark.parametrize("wrong", [b"some bytez", b"some byte", b"", b"some bytes and more"])
def test_what_rotted_is_found_never_handed_out_and_healed_by_the_right_bytes(any_blobs, tmp_path, wrong):
    digest = keep(any_blobs)
    damage(any_blobs, digest, wrong)
    assert any_blobs.present(digest) and any_blobs.state(digest) == "rotten"
    for ask in (lambda d: verified(any_blobs, d), lambda d: any_blobs.fetch(d, tmp_path / "copy")):
        with pytest.raises(BlobRotten) as caught:
            ask(digest)
        assert (caught.value.digest, caught.value.code, caught.value.status) == (digest, "blob_rotten", 424)
    assert not (tmp_path / "copy").exists()
    assert keep(any_blobs) == digest
    assert any_blobs.state(digest) == "sound" and verified(any_blobs, digest).read_bytes() == b"some bytes"
    assert any_blobs.check() == ()


def test_a_young_blob_is_not_deleted_and_an_old_one_is(any_blobs):
    digest = keep(any_blobs)
    (stored,) = any_blobs.digests()
    assert not any_blobs.delete(digest, before=stored.modified)
    assert any_blobs.verify(digest)
    assert any_blobs.delete(digest, before=stored.modified + 1)
    assert not any_blobs.delete(digest, before=stored.modified + 1)
    assert any_blobs.state(digest) == "lost" and list(any_blobs.digests()) == []


@pytest.mark.parametrize("digest", ["sha256:..", "md5:" + "0" * 64, "sha256:" + "0" * 63, "sha256:" + "A" * 64, ""])
def test_what_is_no_digest_never_becomes_a_place(digest):
    with pytest.raises(AssertionError):
        key_of(digest)


def test_a_place_leads_back_to_its_digest_and_nothing_else_does():
    digest = digest_of(b"x")
    key, value = key_of(digest), digest.removeprefix("sha256:")
    assert digest_at(key) == digest
    for strange in (f"sha256/00/{value}", f"sha256/{value}", f"other/{value[:2]}/{value}", f"{key}.part", "", "README"):
        assert digest_at(strange) is None


def test_a_store_belongs_to_who_claimed_it_first_until_it_is_claimed_anew(any_blobs):
    assert any_blobs.owner() is None
    any_blobs.claim("a" * 32)
    any_blobs.claim("b" * 32)
    assert any_blobs.owner() == "a" * 32
    any_blobs.claim("b" * 32, anew=True)
    assert any_blobs.owner() == "b" * 32
    assert list(any_blobs.digests()) == [] and any_blobs.check() == () and any_blobs.sweep() == 0


def test_a_deletion_over_a_network_settles_far_later_than_a_request_ends(any_blobs):
    local = hasattr(any_blobs, "path")
    assert any_blobs.settle_s == 0.0 if local else any_blobs.settle_s >= 60.0
