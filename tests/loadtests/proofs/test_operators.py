"""Operators against a service that keeps names in dictionaries: what they believe of it is what it holds."""

import asyncio
import math

import pytest

from loadtests.proofs.operators import Operator
from loadtests.proofs.population import Population
from tests.loadtests.proofs.fake_service import FakeService, asked

ACTS = {"publish", "move", "move through the gate", "retire", "retire all", "unload", "preload"}


class Counting(asyncio.Event):
    """Set after so many looks at it."""

    def __init__(self, looks):
        super().__init__()
        self.looks = looks

    def is_set(self):
        self.looks -= 1
        return self.looks < 0


@pytest.fixture
def population(forge):
    return Population(forge, 6)


@pytest.fixture
def fake(population):
    return FakeService(population.texts)


def worked(fake, population, acts, seed=1):
    async def scenario(session):
        operator = Operator(session, population, "ada", seed)
        await operator.begin()
        await operator.work(Counting(acts), 0.0)
        return operator

    return asked(fake, scenario)


def test_what_an_operator_believes_is_what_the_service_holds(fake, population):
    operator = worked(fake, population, 150)
    assert operator.failed == {}
    assert operator.done.keys() == ACTS
    own = [name for name in population.names if name.tenant == "ada"]
    assert {name.name: name.versions for name in own} == {n: set(held) for n, held in fake.names.items()}
    assert {name.name: name.timeline.version for name in own} == fake.prod
    assert {name.name: name.last for name in own} == dict(fake.last)
    now = [name.timeline.current(math.inf, math.inf) for name in own]
    assert now == [{fake.prod[name.name]} for name in own]
    assert not any(name.away for name in own)


def test_other_tenants_names_are_left_alone(fake, population):
    worked(fake, population, 20)
    assert all(not name.versions for name in population.names if name.tenant != "ada")


def test_a_version_that_somebody_asks_for_is_not_retired(fake, population):
    for name in population.names:
        name.used[1] += 1  # a request that never ends

    async def scenario(session):
        operator = Operator(session, population, "ada", 1)
        await operator.begin()
        for _ in range(8):
            for name in operator._names:
                await operator._publish(name)
                await operator._retire(name)
        return operator

    operator = asked(fake, scenario)
    assert operator.done["retire"] > 0
    assert all(1 in held for held in fake.names.values())


def test_what_is_being_retired_is_offered_to_nobody(fake, population):
    offered = []
    delete = fake.delete

    def look(rest):
        name, _, version = rest.partition("@")
        (held,) = [one for one in population.names if (one.tenant, one.name) == ("ada", name)]
        offered.append(held.away if not version else int(version) not in held.versions - held.doomed)
        return delete(rest)

    fake.delete = look
    operator = worked(fake, population, 80)
    assert len(offered) > operator.done["retire"] > 0
    assert all(offered)


def test_all_that_is_retired_in_one_go_is_offered_to_nobody_from_its_beginning(fake, population):
    doomed, delete = [], fake.delete

    def look(rest):
        doomed.append(set(operators[0]._names[0].doomed))
        return delete(rest)

    operators, fake.delete = [], look

    async def scenario(session):
        operators.append(Operator(session, population, "ada", 1))
        await operators[0].begin()
        name = operators[0]._names[0]
        for _ in range(7):
            await operators[0]._publish(name)
        await operators[0]._retire(name)

    asked(fake, scenario)
    assert doomed == [{1, 2, 3}] * 3


def test_a_name_is_replaced_only_once_nobody_asks_for_it(fake, population):
    name = population.names[0]

    async def scenario(session):
        operator = Operator(session, population, "ada", 1)
        await operator._publish(name)
        name.used[None] += 1
        replacing = asyncio.create_task(operator._replace(name))
        await operator._reload(name)  # time for it to do what it should not
        before = [call for call in fake.calls if call.startswith("DELETE")]
        await name.leave(None)
        await replacing
        return before, [call for call in fake.calls if call.startswith("DELETE")]

    assert asked(fake, scenario) == ([], ["DELETE fp/000/aliases/prod", "DELETE fp/000"])
    assert name.timeline.version == 2
    assert not name.away


def test_every_version_has_its_own_answer_in_the_book(fake, population):
    worked(fake, population, 60)
    assert len(population.book) == sum(fake.last.values())


def test_what_the_service_refuses_is_counted_with_its_reason(fake, population):
    fake.refused["unload"] = (409, "held")
    operator = worked(fake, population, 60)
    assert operator.failed == {"unload: 409 held": operator.done["unload"]}


def test_a_version_with_another_number_than_the_next_is_a_failure(fake, population):
    fake.last["fp/000"] = 7
    operator = worked(fake, population, 0)
    assert operator.failed == {"publish: 201": 1}
