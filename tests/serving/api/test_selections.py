"""What was resolved is remembered, and never for longer than it is true."""

import asyncio

import pytest

import serving.api.selections
from serving.api.schemas import PredictRequest
from serving.api.selection import select
from serving.api.selections import Selections
from serving.errors import NotFound
from tests.serving.samples import PROFILE, adapter_manifest, head_spec


@pytest.fixture
def looks(monkeypatch):
    """How often names were looked up."""
    made = []

    async def spy(*args):
        made.append(args)
        return await select(*args)

    monkeypatch.setattr("serving.api.selections.select", spy)
    return made


@pytest.fixture
def of(fakes, publish):
    publish("one")
    publish("two")
    selections = Selections(fakes.directory, PROFILE.geometry)

    def choose(adapters, tenant="default", **body):
        request = PredictRequest.model_validate({"inputs": "i", "adapters": adapters, **body})
        found = asyncio.run(selections.of(request, tenant))
        selections.check()
        return found

    return choose


@pytest.mark.parametrize("adapters", ["one", ["one", "two"], [], "one+two"])
def test_the_same_names_are_looked_up_once(of, looks, adapters):
    assert of(adapters, task="feature-extraction") is of(adapters, task="feature-extraction")
    assert len(looks) == 1


def test_what_is_asked_for_otherwise_is_another_selection(of, looks):
    asked = [
        {"adapters": "one"},
        {"adapters": ["one"]},
        {"adapters": "two"},
        {"adapters": "one", "head": "two"},
        {"adapters": "one", "embedding": "default"},
        {"adapters": "one", "task": "feature-extraction"},
        {"adapters": ["one", "two"]},
        {"adapters": "one+two"},
    ]
    for _ in range(2):
        for body in asked:
            of(**body)
    assert len(looks) == len(asked)


def test_a_publish_is_seen_at_once(of, publish, looks):
    before = of("one")
    again = publish("one", adapter_manifest(head_spec(("A", "B"))), promote=True)
    assert of("one").adapters[0].version.ref == again.version.ref != before.adapters[0].version.ref
    assert len(looks) == 2


def test_a_selection_of_a_tenant_is_no_other_tenants(of):
    of("one")
    with pytest.raises(NotFound):
        of("one", tenant="globex")


def test_what_changed_while_it_was_looked_up_is_not_remembered(of, fakes, publish, monkeypatch):
    async def slow(*args):
        found = await select(*args)
        await fakes.publish("three")
        return found

    monkeypatch.setattr("serving.api.selections.select", slow)
    first = of("one")
    monkeypatch.setattr("serving.api.selections.select", select)
    assert of("one") is not first


@pytest.mark.parametrize(
    ("adapters", "body"),
    [
        ({"stack": ["one"]}, {}),
        ([{"average": ["one", "two"]}], {}),
        ({"multi_task": ["one", "two"]}, {"parameters": {"task_ids": [0]}}),
    ],
)
def test_what_is_more_than_names_is_looked_up_each_time(of, looks, adapters, body):
    for _ in range(2):
        of(adapters, **body)
    assert len(looks) == 2


def test_task_ids_belong_to_their_request(of, fakes):
    with pytest.raises(Exception, match="task_ids"):
        of("one", parameters={"task_ids": [0]})
    assert of("one").task_ids is None
    with pytest.raises(Exception, match="task_ids"):
        of("one", parameters={"task_ids": [0]})


def test_memory_is_bounded(of, monkeypatch, looks):
    monkeypatch.setattr(serving.api.selections, "KNOWN", 2)
    for name in ("one", "two", "one+two", "one"):
        of(name)
    assert len(looks) == 4
