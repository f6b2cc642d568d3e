import asyncio

import pytest

from loadtests.client.plan import Tenant
from loadtests.scenarios.values import Adapters
from loadtests.scenarios.values import Tenant as Wanted
from loadtests.served.api import ServiceFailed, connect
from loadtests.served.population import make
from loadtests.served.target import Target, place_of
from tests.loadtests.fake import FakeService, Served


@pytest.fixture
def served(profile):
    with Served(FakeService(profile)) as held:
        yield held


def calling(url, ask, key="ck"):
    async def run():
        async with connect(Target(place_of(url), (Tenant("default", key),), 1e-4, "watch")) as api:
            return await ask(api)

    return asyncio.run(run())


def packages(profile, folder):
    made = make(profile, Adapters(count=6, texts=1), (Wanted("default"),), 0, folder, lambda *_: None)
    return [(one.tenant, one.name, one.digest, one.path) for one in made]


def test_the_profile_is_that_of_the_service(served, profile):
    assert calling(served.url, lambda api: api.profile()) == profile


def test_all_are_published_and_the_progress_is_told(served, profile, tmp_path):
    wanted, steps = packages(profile, tmp_path), []
    calling(served.url, lambda api: api.publish(wanted, lambda done, total: steps.append((done, total))))
    assert served.fake.names == {name: {digest} for _, name, digest, _ in wanted}
    assert steps[-1] == (6, 6)


def test_a_service_that_stores_other_bytes_is_no_service_to_measure(served, profile, tmp_path):
    (tenant, name, _, path), *_ = packages(profile, tmp_path)
    with pytest.raises(ServiceFailed, match=r"was published as sha256:.*, not sha256:beef"):
        calling(served.url, lambda api: api.publish([(tenant, name, "sha256:beef", path)], lambda *_: None))


def test_one_answer_alone(served, profile, tmp_path):
    wanted = packages(profile, tmp_path)
    _, name, digest, _ = wanted[0]

    async def ask(api):
        await api.publish(wanted, lambda *_: None)
        return await api.answers(0, name, digest, ["one two", "three"])

    logits, told = calling(served.url, ask)
    assert [len(row) for row in logits] == [8, 8]
    assert told["usage"]["prompt_tokens"] == 7
    assert served.fake.keys == {"Bearer ck"}


def test_metrics_are_read_where_the_key_may(served):
    assert calling(served.url, lambda api: api.totals()) is None
    served.fake.metrics_for = "watch"
    totals = calling(served.url, lambda api: api.totals())
    assert totals == {("chorus_batches_total", ""): 0, ("chorus_cache_hits_total", "device"): 0}


def test_residency_that_is_not_there_is_none(served):
    assert calling(served.url, lambda api: api.residency()) is None


def test_what_was_published_is_cleared_away_and_what_stays_is_told(served, profile, tmp_path):
    wanted, steps = packages(profile, tmp_path), []

    async def clear(api):
        await api.publish(wanted, lambda *_: None)
        api.published.append((0, "no/such/place"))
        return await api.retire(lambda done, total: steps.append((done, total)))

    assert calling(served.url, clear) == 1
    assert set(served.fake.deleted) == {name for _, name, _, _ in wanted}
    assert steps[-1] == (7, 7)


def test_no_service_is_told_with_the_call():
    with pytest.raises(ServiceFailed, match="GET /v1/limits: ClientConnectorError"):
        calling("http://127.0.0.1:1", lambda api: api.profile())
