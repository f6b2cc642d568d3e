import asyncio

import pytest

from serving.config import Limits
from serving.errors import TooLarge, Unprocessable
from serving.registry.blobs.local import LocalBlobs
from serving.registry.intake import Intake, whole
from serving.registry.records import Extension
from tests.serving.registry.given import TrustingChecker, digest_of, stream


@pytest.fixture
def blobs(tmp_path):
    return LocalBlobs(tmp_path)


@pytest.fixture
def intake(blobs):
    return Intake(blobs.receive, TrustingChecker(), Limits(max_package_bytes=1000))


def left(tmp_path):
    return list((tmp_path / "uploads").iterdir())


def test_what_arrives_is_hashed_and_gone_at_the_end(intake, tmp_path):
    async def scenario():
        async with intake.received(stream(b"on", b"", b"e")) as upload:
            assert (upload.digest, upload.nbytes) == (digest_of(b"one"), 3)
            assert (await intake.examine("adapter", upload)).digest == digest_of(b"one")
            found = await intake.inspect("adapter", upload, "hello")
            assert (found.report.nbytes, found.trial.input) == (3, "hello")
            assert len(left(tmp_path)) == 1

    asyncio.run(scenario())
    assert left(tmp_path) == []


@pytest.mark.parametrize(("body", "refusal"), [(b"", Unprocessable), (b"x" * 1001, TooLarge)])
def test_nothing_and_too_much_are_refused_and_leave_nothing(intake, tmp_path, body, refusal):
    async def scenario():
        async with intake.received(whole(body)):
            pytest.fail("it was received")

    with pytest.raises(refusal):
        asyncio.run(scenario())
    assert left(tmp_path) == []


@pytest.mark.parametrize("call", ["examine", "inspect"])
def test_a_kind_belongs_into_its_own_namespace_in_a_dry_run_too(intake, call):
    async def scenario():
        async with intake.received(whole(b"embedding")) as upload:
            more = ("hello",) if call == "inspect" else ()
            await getattr(intake, call)("embedding", upload, *more)
            await getattr(intake, call)("adapter", upload, *more)

    with pytest.raises(Unprocessable, match="/v1/token-embeddings"):
        asyncio.run(scenario())


def test_a_new_vocabulary_becomes_an_upload_of_its_own(intake, tmp_path):
    async def scenario():
        async with intake.built(Extension(b"{}", True, None, b"[]", 4), None) as upload:
            told = upload.path.read_bytes()
            assert upload.digest == digest_of(told)
            return told

    assert asyncio.run(scenario()) == b"embedding b'{}' True [None, b'[]'] 4 default"
    assert left(tmp_path) == []
