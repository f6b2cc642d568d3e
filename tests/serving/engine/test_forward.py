from dataclasses import replace

import numpy as np
import pytest
import torch

from adapters.backbone import Backbone
from adapters.batch.answers import Answers
from adapters.batch.rows import Fork, Row, image_ids
from adapters.composition import Average, Composition, Leaf, Split
from adapters.embeddings import token_embedding
from adapters.errors import InvalidArrangement, InvalidRow
from adapters.manifest import HeadSpec
from adapters.refs import AdapterRef
from serving.engine.forward import BackboneForward, Work
from serving.images.frame import Frame
from serving.images.preprocessing import Preprocessing
from serving.request import Reduced, Reduction, Ticket
from tests.adapters import builders
from tests.adapters.batch.test_answers import Event
from tests.adapters.builders import HEADS, PARTS
from tests.serving.samples import stack

TASK = AdapterRef("acme", "task", 1, "sha256:" + "1" * 64)
TAGGER = AdapterRef("acme", "tagger", 1, "sha256:" + "2" * 64)
WORDS = AdapterRef("acme", "words", 1, "sha256:" + "3" * 64)


@pytest.fixture(scope="module")
def resident():
    task, tagger = builders.in_one_arena(
        [
            builders.adapter("bert", [PARTS["lora_qv"]], HEADS["two_layers"], 1),
            builders.adapter("bert", [PARTS["prompt_after_bos"]], HEADS["tagging"], 2),
        ]
    )
    return {TASK: task, TAGGER: tagger, WORDS: token_embedding(builders.embedding_package("bert"), torch.float32)}


def ticket(adapters=(TASK,), head=TASK, embedding=None, output="logits", positions=None, length=6) -> Ticket:
    ids = (builders.ids(3, length) % 50).astype(np.int32)
    return Ticket("t", "acme", stack(*adapters), head, embedding, ids, None, Reduction(output, positions), 1000.0)


def test_tickets_become_rows_and_every_row_gets_its_own_share(resident):
    backbone = builders.backbone("bert")
    tickets = [
        ticket(),
        ticket((TAGGER,), TAGGER),
        ticket((TAGGER,), TAGGER, positions=(1, 4)),
        ticket((TASK,), None, WORDS, "hidden_state"),
    ]
    outputs = BackboneForward(backbone).run([Work(t, resident) for t in tickets])
    outputs = [share.output for share in outputs]
    assert [output.shape for output in outputs] == [(3,), (6, 2), (2, 2), (6, builders.HIDDEN)]
    assert all(output.dtype == np.float32 for output in outputs)
    assert np.allclose(outputs[2], outputs[1][[1, 4]], atol=1e-6)
    row = Row((resident[TASK],), resident[TASK], None, tickets[0].input_ids.astype(np.int64))
    assert np.allclose(outputs[0], backbone.run([row], ["logits"])[0].numpy(), atol=1e-5)


def test_tags_of_an_encoder_decoders_own_tokens_are_those_of_its_encoder():
    tags = HeadSpec("tagging", 1, None, True, "encoder_tokens", ("a", "b"), "token")
    prompted, tagger = builders.in_one_arena(
        [builders.adapter("t5", [PARTS["word_prompt"]], None, 1), builders.adapter("t5", [], tags, 2)]
    )
    backbone, held = builders.backbone("t5"), {TASK: prompted, TAGGER: tagger}
    tickets = [ticket(head=TAGGER), ticket(head=TAGGER, positions=(1, 4)), ticket((), TAGGER)]
    outputs = [share.output for share in BackboneForward(backbone).run([Work(t, held) for t in tickets])]
    assert [output.shape for output in outputs] == [(6, 2), (2, 2), (6, 2)]
    assert np.allclose(outputs[1], outputs[0][[1, 4]], atol=1e-6)
    row = Row((prompted,), tagger, None, tickets[0].input_ids.astype(np.int64))
    assert np.allclose(outputs[0], backbone.run([row], ["logits"])[0].numpy()[3:], atol=1e-5)


def test_a_composition_is_a_tree_of_residents(resident):
    backbone = builders.backbone("bert")
    ours = replace(ticket(), composition=Composition(Average((Leaf(TASK), Leaf(TASK)), (1.0, 3.0)), frozenset({1})))
    (output,) = BackboneForward(backbone).run([Work(ours, resident)])
    mean = Fork("average", ((resident[TASK],), (resident[TASK],)), (False, False), weights=(0.25, 0.75))
    row = Row((mean,), resident[TASK], None, ours.input_ids.astype(np.int64), skip_layers=frozenset({1}))
    assert np.allclose(output.output, backbone.run([row], ["logits"])[0].numpy(), atol=1e-5)


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"head": None}, "names none"),
        ({"adapters": (WORDS,)}, "is a token embedding"),
        ({"embedding": TASK}, "is an adapter"),
    ],
)
def test_a_reference_of_the_wrong_kind_is_refused(resident, wrong, reason):
    (fault,) = BackboneForward(builders.backbone("bert")).run([Work(ticket(**wrong), resident)])
    assert isinstance(fault, InvalidRow)
    assert reason in str(fault)


def test_rows_that_can_not_run_have_a_reason_in_their_place_and_the_others_one_pass(resident, monkeypatch):
    backbone = builders.backbone("bert")
    forward, passes = backbone.forward, []
    monkeypatch.setattr(backbone, "forward", lambda plan: (passes.append(len(plan.rows)), forward(plan))[1])
    good, tagged = ticket(), ticket((TAGGER,), TAGGER)
    short = replace(ticket(), composition=Composition(Split((Leaf(TASK), Leaf(TASK)), (2, 3))))
    row_wide = ticket(positions=(0,))
    batch = [short, good, ticket(head=None), tagged, row_wide]
    found = BackboneForward(backbone).run([Work(t, resident) for t in batch])
    assert [type(share) for share in found] == [InvalidArrangement, Reduced, InvalidRow, Reduced, InvalidRow]
    assert passes == [3]  # `row_wide` is found when its share is cut
    alone = BackboneForward(backbone).run([Work(good, resident), Work(tagged, resident)])
    for ours, theirs in zip((found[1], found[3]), alone, strict=True):
        assert np.allclose(ours.output, theirs.output, atol=1e-5)


def test_a_batch_of_which_no_row_can_run_makes_no_pass(resident, monkeypatch):
    backbone = builders.backbone("bert")
    monkeypatch.setattr(backbone, "forward", None)
    faults = BackboneForward(backbone).run([Work(ticket(head=None), resident), Work(ticket(length=41), resident)])
    assert [type(fault) for fault in faults] == [InvalidRow, InvalidRow]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_an_image_runs_as_the_numbers_of_its_pixels(dtype):
    backbone = Backbone.load(builders.folder("vit"), dtype=dtype)  # of two channels
    levels = np.random.default_rng(5).standard_normal((2, 256)).astype(np.float32)
    seen = Preprocessing(Frame(8, 12, None), levels)
    pixels = np.random.default_rng(6).integers(0, 256, (8, 12, 3), np.uint8)
    ids = image_ids(backbone.profile.geometry)
    shown = replace(ticket((), None, output="hidden_state"), input_ids=ids.astype(np.int32), pixels=pixels)
    (found,) = BackboneForward(backbone, seen).run([Work(shown, {})])
    row = Row((), None, None, ids, pixels=np.stack([levels[0][pixels[:, :, 0]], levels[1][pixels[:, :, 1]]]))
    assert np.array_equal(found.output, backbone.run([row], ["hidden_state"])[0].numpy())


def test_an_image_for_text_and_a_text_for_images_have_their_reasons():
    picture = replace(ticket((), None, output="hidden_state"), pixels=np.zeros((8, 12, 3), np.uint8))
    (fault,) = BackboneForward(builders.backbone("bert")).run([Work(picture, {})])
    assert "reads text" in str(fault)
    seen = Preprocessing(Frame(8, 12, None), np.zeros((2, 256), np.float32))
    (fault,) = BackboneForward(builders.backbone("vit"), seen).run([Work(replace(picture, pixels=None), {})])
    assert "no pixels" in str(fault)


def test_passes_that_were_begun_may_be_finished_later_and_answer_the_same(resident):
    forward = BackboneForward(builders.backbone("bert"))
    batches = [[Work(ticket((TASK,), TASK), resident)], [Work(ticket(head=None), resident), Work(ticket(), resident)]]
    alone = [forward.run(batch) for batch in batches]
    begun = [forward.begin(batch) for batch in batches]
    for pending, due in zip(begun, alone, strict=True):
        for ours, theirs in zip(pending.finish(), due, strict=True):
            assert type(ours) is type(theirs)
            assert not isinstance(ours, Reduced) or np.array_equal(ours.output, theirs.output)
        assert pending.seconds is None


def test_only_a_device_computes_by_itself(monkeypatch):
    backbone = builders.backbone("bert")
    assert not BackboneForward(backbone).overlaps
    monkeypatch.setattr(backbone, "device", torch.device("cuda"))
    assert BackboneForward(backbone).overlaps


def test_a_pass_tells_how_long_its_device_took(resident, monkeypatch):
    backbone = builders.backbone("bert")
    begin = backbone.begin
    monkeypatch.setattr(backbone, "begin", lambda *given: Answers(begin(*given).shares, (Event(3.0), Event(28.0))))
    pending = BackboneForward(backbone).begin([Work(ticket(), resident)])
    assert pending.seconds is None
    pending.finish()
    assert pending.seconds == 0.025
