import asyncio

import pytest

from adapters.formats import native
from loadtests.client.connection import Pool
from loadtests.client.plan import FAILED, RIGHT, WRONG, Tenant
from loadtests.client.publisher import Publisher, acknowledged
from loadtests.scenarios.values import Publishing
from loadtests.served.api import connect
from loadtests.served.hot import make_hot, publishes
from loadtests.served.population import known
from loadtests.served.target import Target, place_of
from tests.loadtests.fake import FakeService, Served


@pytest.fixture
def served(profile):
    with Served(FakeService(profile)) as held:
        yield held


def published(served, profile, folder, at=(0.0, 0.02, 0.04), ask=True):
    """What came of publishing copies of a package whose answer was asked before."""
    target = Target(place_of(served.url), (Tenant("default", "ck"),), 1e-4)
    hot = make_hot(profile, Publishing(megabytes=0.05), 0, folder)

    async def run():
        async with connect(target) as api:
            await api.publish([(0, hot.name, hot.digest, hot.path)], lambda *_: None)
            logits, _ = await api.answers(0, hot.name, hot.digest, ["some text"])
        plan = publishes(known(hot, logits), hot, target, "some text", at, folder / "out", ask=ask)
        publisher = Publisher(plan)
        await publisher.publish(asyncio.get_running_loop().time())
        return publisher.published

    return asyncio.run(run())


def test_every_copy_is_acknowledged_and_gives_its_own_answer(served, profile, tmp_path):
    found = published(served, profile, tmp_path)
    assert [(one.status, one.verdict) for one in found] == [(201, RIGHT)] * 3
    assert all(one.sent <= one.done <= one.answered for one in found)
    assert {one.intended for one in found} == {0.0, 0.02, 0.04}
    (digests,) = served.fake.names.values()
    assert len(digests) == 4
    assert served.fake.keys == {"Bearer ck"}


def test_an_answer_of_another_copy_is_wrong(served, profile, tmp_path):
    first = []

    def stale(answer):
        first.append(answer["outputs"])
        return answer | {"outputs": first[0]}

    served.fake.honest, served.fake.lie = 1, stale
    found = published(served, profile, tmp_path)
    assert sorted(one.verdict for one in found) == [RIGHT, WRONG, WRONG]


def test_without_asking_nothing_is_predicted(served, profile, tmp_path):
    found = published(served, profile, tmp_path, ask=False)
    assert [(one.verdict, one.answered) for one in found] == [(RIGHT, None)] * 3
    assert served.fake.predictions == 1


def test_an_acknowledgement_of_other_bytes_is_wrong_also_where_nobody_asks(served, profile, tmp_path):
    other = native.digest(b"other")
    served.fake.acknowledge = lambda answer: answer if len(served.fake.packages) == 1 else answer | {"digest": other}
    (one,) = published(served, profile, tmp_path, at=(0.0,), ask=False)
    assert (one.status, one.verdict) == (201, WRONG)
    assert one.detail.startswith(f"published as {other}, not sha256:")


def test_an_acknowledgement_names_the_bytes():
    assert acknowledged(201, {"digest": native.digest(b"x")}, b"x") == (RIGHT, "")
    assert acknowledged(201, {}, b"x")[0] == WRONG
    assert acknowledged(503, {"code": "busy"}, b"x") == (FAILED, "503 busy")


def test_nothing_is_sent_twice(served, profile, tmp_path, monkeypatch):
    told, ask = [], Pool.ask

    async def asking(pool, raw, patience_s, **how):
        told.append((raw[:3], how))
        return await ask(pool, raw, patience_s, **how)

    monkeypatch.setattr(Pool, "ask", asking)
    published(served, profile, tmp_path, at=(0.0,))
    assert told == [(b"PUT", {"once": True}), (b"POS", {"once": True})]


def test_a_refused_publish_is_told_with_its_reason(served, profile, tmp_path):
    found = published(served, profile, tmp_path, at=())
    assert found == []
    target = Target(place_of("http://127.0.0.1:1"), (Tenant("default", ""),), 1e-4)
    hot = make_hot(profile, Publishing(megabytes=0.05), 0, tmp_path)
    plan = publishes(known(hot, [[0.0] * 8]), hot, target, "x", (0.0,), tmp_path / "out", ask=True)

    async def run():
        publisher = Publisher(plan)
        await publisher.publish(asyncio.get_running_loop().time())
        return publisher.published

    (one,) = asyncio.run(run())
    assert (one.verdict, one.status, one.answered) == (FAILED, 0, None)
    assert "ConnectionRefused" in one.detail
