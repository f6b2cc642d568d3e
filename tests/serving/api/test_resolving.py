import asyncio

import pytest

from adapters.refs import Reference
from serving.api.resolving import Resolver
from serving.errors import NotFound, NotReady, Unprocessable
from tests.serving.samples import adapter_manifest, fusion_manifest, head_spec, target_manifest


@pytest.fixture
def resolver(fakes, publish):
    publish("task")
    publish("plain", adapter_manifest())
    publish("head", adapter_manifest(head_spec(), kind="head"))
    publish("fused", fusion_manifest("a", "b"))
    publish("whole", target_manifest({"stack": ["task"]}))
    publish("klingon", adapter_manifest(kind="embedding"), space="embedding")
    publish("sindarin", adapter_manifest(kind="embedding"), space="embedding")
    publish("kl", adapter_manifest(embedding="klingon"))
    publish("si", adapter_manifest(embedding="sindarin"))
    return Resolver("default", fakes.directory)


def refused(work, kind=Unprocessable):
    with pytest.raises(kind) as caught:
        asyncio.run(work)
    return caught.value.code, caught.value.faults[0].pointer, caught.value.detail


@pytest.mark.parametrize(
    ("name", "remedy"), [("head", "as `head`"), ("fused", "beside what it fuses"), ("whole", "name it alone")]
)
def test_a_package_of_another_kind_comes_with_its_remedy(resolver, name, remedy):
    code, pointer, detail = refused(resolver.adapter(Reference(name), "/adapters/0"))
    assert (code, pointer) == ("wrong_kind", "/adapters/0")
    assert remedy in detail


def test_a_fusion_is_one_and_fuses_as_many(resolver):
    assert asyncio.run(resolver.fusion(Reference("fused"), "/x", arms=2)).version.ref.name == "fused"
    assert refused(resolver.fusion(Reference("task"), "/x", arms=2))[:2] == ("wrong_kind", "/x")
    code, _, detail = refused(resolver.fusion(Reference("fused"), "/x", arms=3))
    assert code == "wrong_fusion"
    assert detail == "fused fuses 2 (a, b), and here are 3"


def test_a_head_holds_one(resolver):
    assert asyncio.run(resolver.head("head@1", "/head")).version.ref.name == "head"
    assert asyncio.run(resolver.head("task", "/head")).version.ref.name == "task"
    assert refused(resolver.head("plain", "/head"))[:2] == ("no_head", "/head")
    assert refused(resolver.head("NO", "/head"))[:2] == ("invalid_name", "/head")


def test_the_vocabulary_of_packages_that_agree(resolver, fakes):
    kl, si, task = (asyncio.run(resolver.adapter(Reference(name), "/")) for name in ("kl", "si", "task"))

    def wanted(*packages):
        found = asyncio.run(resolver.wanted_embedding(packages))
        return None if found is None else found.version.ref.name

    assert (wanted(task), wanted(task, kl), wanted(kl, kl)) == (None, "klingon", "klingon")
    fakes.directory.active["default"] = "sindarin"
    assert (wanted(task), wanted(kl)) == ("sindarin", "klingon")
    code, pointer, detail = refused(resolver.wanted_embedding([kl, si]))
    assert (code, pointer) == ("contradicting_embeddings", "/embedding")
    assert "kl needs klingon, si needs sindarin" in detail
    assert asyncio.run(resolver.embedding("default", "/embedding")) is None


def test_a_refusal_keeps_its_kind_and_gets_a_pointer(resolver, fakes):
    assert refused(resolver.pin("adapter", Reference("nope"), "/adapters/3"), NotFound)[1] == "/adapters/3"

    async def away(*_):
        raise NotReady("the registry does not answer", retry_after=2.0)

    fakes.directory.resolve = away
    with pytest.raises(NotReady) as caught:
        asyncio.run(resolver.pin("adapter", Reference("task"), "/adapters/0"))
    assert caught.value.retry_after == 2.0
