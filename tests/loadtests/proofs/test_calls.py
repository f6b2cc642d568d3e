import asyncio

import aiohttp
import pytest

from loadtests.proofs.calls import Told, answered, call, predict, publish
from tests.loadtests.proofs.fake_service import FakeService, asked, digest_of

TEXTS = ("one", "two")


@pytest.fixture
def fake():
    return FakeService(TEXTS, {digest_of(b"package"): [[1.0, 2.0], [3.0, 4.0]]})


def test_a_publish_and_a_prediction_are_read_back(fake):
    async def scenario(session):
        told = await publish(session, "team/x", b"package", promote=True, once="key")
        return told, await predict(session, "team/x", ["two", "one"])

    published, told = asked(fake, scenario)
    assert published.ok
    assert (published.status, published.body["version"]) == (201, 1)
    assert published.ended >= published.began
    assert answered(told) == (("team/x", 1), [[3.0, 4.0], [1.0, 2.0]])
    assert fake.prod == {"team/x": 1}


def test_a_refusal_is_told_with_its_code_and_headers(fake):
    fake.refused["publish"] = (503, "registry_unavailable")
    told = asked(fake, lambda session: publish(session, "x", b"package"))
    assert not told.ok
    assert told.why == "503 registry_unavailable"
    assert told.headers["Retry-After"] == "1"


def test_where_nobody_answers_the_value_says_so():
    async def scenario():
        async with aiohttp.ClientSession("http://127.0.0.1:1") as session:
            return await call(session, "GET", "/v1/residency")

    told = asyncio.run(scenario())
    assert (told.status, told.ok, told.body) == (0, False, {})
    assert told.why == "ClientConnectorError"


@pytest.mark.parametrize(
    "body",
    [{}, {"outputs": []}, {"target": {"adapters": []}, "outputs": []}, {"target": 3}],
    ids=["empty", "no-target", "nobody", "number"],
)
def test_an_answer_of_another_shape_is_none(body):
    with pytest.raises(ValueError):
        answered(Told(200, body, 0, 1, {}))
