import asyncio

import pytest

from loadtests.proofs.fingerprints import Identity
from loadtests.proofs.population import TENANTS, Name, Population, keys
from loadtests.proofs.stage import StageFailed
from serving.commands.stored_keys import open_store


def test_the_same_names_belong_to_all_tenants(forge):
    names = Population(forge, 7).names
    assert [(name.tenant, name.name) for name in names[:4]] == [
        ("ada", "fp/000"),
        ("bob", "fp/000"),
        ("eve", "fp/000"),
        ("ada", "fp/001"),
    ]
    assert len(names) == 7


def test_the_book_knows_a_package_before_it_is_published(forge):
    population = Population(forge, 3)
    name = population.names[1]
    name.last = 4
    made = population.forge(name)
    assert population.book.read(0, made.logits[0]) == Identity("bob", "fp/000", 5)


def test_only_versions_that_nobody_needs_may_be_retired():
    name = Name("ada", "x", versions={1, 2, 3, 4})
    name.timeline.begin(4, 0.0)
    assert name.unused == [1, 2, 3]
    name.used[2] += 1
    name.doomed.add(3)
    assert name.unused == [1]


def test_a_name_is_quiet_once_every_request_has_ended():
    async def scenario():
        name = Name("ada", "x")
        name.used.update([None, None, 3])
        waiting = asyncio.create_task(name.quiet())
        for version in (None, 3):
            await name.leave(version)
            await asyncio.sleep(0)
            assert not waiting.done()
        await name.leave(None)
        await asyncio.wait_for(waiting, 60)

    asyncio.run(scenario())


def test_keys_are_made_in_the_data_folder_with_all_that_an_operator_needs(tmp_path):
    made = keys(tmp_path / "data")
    assert tuple(made) == TENANTS
    assert len(set(made.values())) == len(TENANTS)
    with open_store(tmp_path / "data", "") as store:
        held = store.since(-1)[1]
    assert {(key.tenant, key.scopes) for key in held} == {
        (tenant, frozenset({"predict", "publish", "operate"})) for tenant in TENANTS
    }


def test_where_no_key_can_be_made_the_proof_does_not_start(tmp_path):
    (tmp_path / "data").write_text("a file is in the way")
    with pytest.raises(StageFailed, match="no key for ada"):
        keys(tmp_path / "data")
