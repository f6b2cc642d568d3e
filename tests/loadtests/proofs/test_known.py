import numpy as np
import pytest

from loadtests.proofs.known import Known
from loadtests.proofs.stage import StageFailed
from tests.loadtests.proofs.fake_service import FakeService, asked


@pytest.fixture
def fake(forge):
    return FakeService(forge.texts)


def with_known(fake, forge, scenario):
    """`scenario(known)` with two names published."""

    async def run(session):
        known = Known(forge, session, seed=0)
        for name in ("a", "b"):
            fake.learn(known.make(name))
            await known.again(name)
        return await scenario(known)

    return asked(fake, run)


def test_what_is_known_answers_as_itself_and_is_fetched_whole(fake, forge):
    async def scenario(known):
        return await known.ask("a"), await known.fetch("b"), await known.ask_all(["a", "b"])

    assert with_known(fake, forge, scenario) == ("", "", {"": 4})


def test_another_ones_answer_is_wrong(fake, forge):
    async def scenario(known):
        fake.logits = {digest: np.roll(rows, 1, axis=0) for digest, rows in fake.logits.items()}
        return await known.ask("a")

    assert with_known(fake, forge, scenario) == "wrong: another package answered"


@pytest.mark.parametrize("spoil", [lambda data: data[:-1], lambda data: data[:-1] + b"\0", lambda _: b""])
def test_other_bytes_are_wrong(fake, forge, spoil):
    async def scenario(known):
        fake.spoil = spoil
        return await known.fetch("a")

    assert with_known(fake, forge, scenario) == "wrong: other bytes"


def test_a_refusal_is_none(fake, forge):
    async def scenario(known):
        fake.refused = {"predict": (424, "blob_rotten"), "package": (424, "blob_rotten")}
        return await known.ask_all(["a"])

    assert with_known(fake, forge, scenario) == {"424 blob_rotten": 1, "424": 1}


def test_adding_publishes_promotes_and_pins(fake, forge):
    asked(fake, lambda session: Known(forge, session, 0).add(["x"], pin=True))
    assert fake.prod == {"x": 1}
    assert fake.calls == ["PUT x", "POST x:pin"]


def test_a_service_that_takes_nothing_can_not_be_proven(fake, forge):
    fake.refused["publish"] = (503, "storage_unavailable")
    with pytest.raises(StageFailed, match="x: 503 storage_unavailable"):
        asked(fake, lambda session: Known(forge, session, 0).add(["x"]))
