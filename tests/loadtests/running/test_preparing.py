import asyncio

import numpy as np
import pytest

from loadtests.client.plan import Tenant
from loadtests.running.preparing import ASKED, COMPUTED, asked, computed, most
from loadtests.running.settings import Settings
from loadtests.running.showing import Show
from loadtests.served.api import connect
from loadtests.served.population import TooAlike
from loadtests.served.target import Target, place_of
from tests.loadtests.conftest import TINY
from tests.loadtests.fake import FakeService, Served, scenario

SHOW = Show(quiet=True)


def settings(tmp_path, tolerance=1e-4, **changes):
    held = scenario(**({"adapters": {"count": 3, "texts": 2}} | changes))
    return Settings("x", held, tmp_path, 0, "x", None, "http://x", None, None, 1, tolerance)


@pytest.fixture
def served(profile):
    with Served(FakeService(profile)) as held:
        yield held


def asking(served, wanted, folder):
    async def run():
        target = Target(
            place_of(served.url), tuple(Tenant(t.name, "") for t in wanted.scenario.tenants), wanted.tolerance
        )
        async with connect(target) as api:
            return await asked(wanted, api, folder, SHOW)

    return asyncio.run(run())


def test_the_library_computes_what_all_answer_without_a_service(tmp_path):
    found = computed(settings(tmp_path, tenants=[{"name": "a"}, {"name": "b"}]), TINY, tmp_path / "packages", SHOW)
    assert (len(found.known), found.how, found.hot) == (6, COMPUTED, None)
    assert found.of(1, 2) is found.known[5]
    assert (found.of(1, 2).tenant, found.of(1, 2).name) == (1, "load-b-0-00002")
    assert found.nearest > 2e-4
    assert found.slot_bytes > 1000


def test_a_service_alone_is_asked_what_all_answer(served, tmp_path):
    found = asking(served, settings(tmp_path), tmp_path / "packages")
    assert (len(found.known), found.how, found.slot_bytes) == (3, ASKED, None)
    assert len(served.fake.names) == 3
    one = found.known[1]
    expected = served.fake.answer(one.name, one.digest, [found.pool.texts[one.texts[1]]])["outputs"][0]
    assert np.allclose(one.logits[1], [entry["score"] for entry in expected])


def test_the_served_tokenizer_is_measured(served, tmp_path):
    found = asking(served, settings(tmp_path), tmp_path / "packages")
    assert (found.tokens.per_word, found.tokens.special) == (1.0, 2)  # the fake counts words, and two more
    fixed = settings(tmp_path, requests={"lengths": {"law": "fixed", "mean": 12}})
    assert {len(text.split()) for text in asking(served, fixed, tmp_path / "packages").pool.texts} == {10}


def test_what_is_published_beside_the_load_is_made_as_well(served, tmp_path):
    wanted = settings(tmp_path, publishing={"per_s": 1.0, "megabytes": 0.05})
    made, known = asking(served, wanted, tmp_path / "a").hot
    assert made.digest == known.digest
    assert made.name in served.fake.names
    assert len(computed(wanted, TINY, tmp_path / "b", SHOW).hot[1].logits) == 1


def test_adapters_that_answer_alike_stop_the_run(served, tmp_path):
    with pytest.raises(TooAlike):
        computed(settings(tmp_path, tolerance=5.0), TINY, tmp_path / "packages", SHOW)
    served.fake.alike = True
    with pytest.raises(TooAlike):
        asking(served, settings(tmp_path), tmp_path / "packages")


def test_as_many_are_made_as_the_largest_step_needs(tmp_path):
    wanted = settings(tmp_path, sweep={"over": "adapters", "values": [1, 7, 3]})
    assert most(wanted).count == 7
