import asyncio

import pytest

from serving.api.gate import Gate, GateWish
from serving.errors import DependencyFailed, Unprocessable
from serving.images import reference
from serving.registry.inspection import SAMPLE
from serving.registry.records import Resolved
from serving.request import Refusal
from serving.tenancy.keys import SCOPES, Caller
from tests.serving import fakes, samples
from tests.serving.api import imaged
from tests.serving.images.samples import drawn, saved

ME = Caller("default", SCOPES, "test")
WISH = GateWish("i love it", None)


@pytest.fixture
def held(tmp_path):
    return fakes.make_fakes(tmp_path)


def opened(held, name, wish=WISH, space="adapter", **options):
    published = asyncio.run(held.publish(name, space=space, **options))
    return asyncio.run(Gate(held.services).open(ME, space, Resolved(published.version, None), wish))


def test_every_engine_loads_it_and_it_answers_pinned_to_its_bytes(held):
    told = opened(held, "tone", promote=True)
    assert (told["input"], told["replicas"]) == ("i love it", {"engine-1": "device", "engine-2": "device"})
    (ticket,) = held.submit.seen
    assert [ref.name for ref in ticket.refs] == ["tone"]
    assert held.control.audit[-1].action == "publish"


def test_an_adapter_without_a_head_is_asked_for_features(held):
    told = opened(held, "lang", manifest=fakes.adapter_manifest())
    assert held.submit.seen[0].reduction.output == "hidden_state"
    assert len(told["outputs"][0][0]) == 8


def test_a_vocabulary_is_read_with(held):
    told = opened(held, "klingon", space="embedding", manifest=fakes.adapter_manifest(kind="embedding"))
    assert held.submit.seen[0].embedding.name == "klingon"
    assert told["outputs"]


def test_a_head_alone_stands_on_the_bare_backbone(held):
    told = opened(held, "tagger", manifest=fakes.adapter_manifest(fakes.head_spec(("O", "B"), "token"), kind="head"))
    (ticket,) = held.submit.seen
    assert (ticket.head.name, ticket.refs) == ("tagger", (ticket.head,))
    assert told["outputs"]


def test_parameters_reach_the_task(held):
    told = opened(held, "tone", GateWish("i love it", {"top_k": 1}))
    assert len(told["outputs"][0]) == 1


@pytest.mark.parametrize(
    ("wish", "pointer"),
    [(GateWish(3, None), "/gate/inputs"), (GateWish("a", {"topk": 1}), "/gate/parameters/topk")],
)
def test_a_wish_that_is_no_request_is_422_and_says_where(held, wish, pointer):
    with pytest.raises(Unprocessable) as caught:
        opened(held, "tone", wish)
    assert any(fault.pointer.startswith(pointer) for fault in caught.value.faults)
    assert held.control.audit[-1].action == "publish"  # nothing was tried
    assert held.fleet.calls == []


def test_a_fusion_is_gated_as_part_of_a_target(held):
    with pytest.raises(Unprocessable, match="gate a target"):
        opened(held, "fusion", manifest=samples.fusion_manifest("a", "b"))


@pytest.mark.parametrize("outcomes", [{"engine-1": "device", "engine-2": "error: out of room"}, {}])
def test_an_engine_that_can_not_load_it_or_none_at_all_keeps_the_gate_shut(held, outcomes):
    async def preload(resolved, *, pinned):
        return outcomes

    held.fleet.preload = preload
    with pytest.raises(DependencyFailed) as caught:
        opened(held, "tone")
    assert caught.value.code == "gate_failed"
    reason = "engine-2: error: out of room" if outcomes else "no engine answers"
    assert reason in caught.value.detail
    assert held.submit.seen == []
    assert (held.control.audit[-1].action, held.control.audit[-1].detail) == ("gate", reason)


def test_an_answer_that_is_refused_keeps_the_gate_shut(held):
    held.submit.refuse[0] = Refusal("", "engine_failed", "not finite", "engine-1")
    with pytest.raises(DependencyFailed, match=r"tone@1 did not pass the gate: .*not finite"):
        opened(held, "tone")


def test_a_public_name_is_gated_by_its_own_tenant_alone(held):
    published = asyncio.run(held.publish("public/tone", tenant="public"))
    for space in ("adapter", "embedding"):
        with pytest.raises(Unprocessable, match="belong to the tenant 'public'") as caught:
            asyncio.run(Gate(held.services).open(ME, space, Resolved(published.version, None), WISH))
        assert caught.value.code == "public_name"
    assert (held.fleet.calls, held.submit.seen) == ([], [])  # no engine worked for it
    assert held.control.audit[-1].action == "publish"
    owner = Caller("public", SCOPES, "test")
    assert asyncio.run(Gate(held.services).open(owner, "adapter", Resolved(published.version, None), WISH))["outputs"]


def test_a_backbone_of_images_is_shown_a_drawn_one_or_the_one_that_was_sent(tmp_path):
    made, _ = imaged.served(tmp_path)
    mine = {"image": imaged.base64(saved(drawn(20, 20)))}
    for wish, said in ((GateWish(SAMPLE, None), "a drawn image"), (GateWish(mine, None), mine)):
        told = opened(made, "pets", wish, manifest=made.directory.names("default", "adapter")[0].versions[0].manifest)
        assert told["input"] == said
        assert {item["label"] for item in told["outputs"][0]} == set(imaged.LABELS)
    first, second = made.submit.seen
    assert first.pixels.tobytes() == reference.drawn(8, 12).tobytes() != second.pixels.tobytes()
    with pytest.raises(DependencyFailed, match="reads images"):
        opened(made, "pets", WISH, manifest=made.directory.names("default", "adapter")[0].versions[0].manifest)
