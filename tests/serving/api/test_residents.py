import asyncio

import pytest

from adapters.manifest import Manifest, TargetSpec
from adapters.refs import Reference
from serving.api.residents import joined, pinned_as, residents
from serving.registry.records import NewTarget
from serving.tenancy.keys import SCOPES, Caller
from tests.serving import fakes

ME = Caller("default", SCOPES, "test")


@pytest.fixture
def held(tmp_path):
    held = fakes.make_fakes(tmp_path)

    async def publish():
        lang = (await held.publish("lang")).version.ref
        words = fakes.adapter_manifest(kind="embedding")
        klingon = (await held.publish("klingon", words, space="embedding")).version.ref
        spec = TargetSpec({"stack": [f"lang@{lang.digest}"]}, f"klingon@{klingon.digest}")
        manifest = Manifest("target", fakes.adapter_manifest().requires, target=spec)
        await held.control.publish_target(ME, "news", NewTarget(manifest, ()), promote=False)

    asyncio.run(publish())
    return held


def resolved(held, name, space="adapter"):
    return asyncio.run(held.directory.resolve("default", space, Reference(name)))


def test_a_package_is_itself_and_a_target_is_its_members(held):
    for name, members in (("lang", ["lang"]), ("news", ["lang", "klingon"])):
        found = asyncio.run(residents(held.directory, "default", resolved(held, name)))
        assert [item.version.ref.name for item in found] == members


def test_a_pin_on_a_target_holds_its_members_in_both_spaces(held):
    digests = [resolved(held, *where).version.ref.digest for where in (("lang",), ("klingon", "embedding"))]
    assert [pinned_as(held.directory, "default", digest) for digest in digests] == [[], []]
    asyncio.run(held.control.set_pin(ME, "adapter", "news", 1, pinned=True))
    assert [pinned_as(held.directory, "default", digest) for digest in digests] == [["news@1"], ["news@1"]]
    asyncio.run(held.control.set_pin(ME, "adapter", "lang", 1, pinned=True))
    assert sorted(pinned_as(held.directory, "default", digests[0])) == ["lang@1", "news@1"]
    assert pinned_as(held.directory, "acme", digests[0]) == []


def test_outcomes_are_joined_per_replica_and_errors_come_first():
    assert joined([{"b": "device", "a": "device"}, {"a": "host", "b": "device"}]) == {
        "a": "device, host",
        "b": "device",
    }
    assert joined([{"a": "device"}, {"a": "error: no room"}]) == {"a": "error: no room"}
    assert joined([]) == {}
