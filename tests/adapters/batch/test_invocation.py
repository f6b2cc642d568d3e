from dataclasses import replace

import numpy as np
import pytest
import torch

from adapters.batch.invocation import called, check_alone
from adapters.batch.rows import Row
from adapters.errors import InvalidArrangement, InvalidRows, Misfit
from adapters.generation import generate
from adapters.manifest import HeadSpec, Manifest, PartSpec
from adapters.methods.fold import expected
from tests.adapters import builders
from tests.adapters.batch.arrangements import add

CALL = (9, 4)
IDS = np.array([7, 9, 4, 8, 9, 4, 6, 11])  # called twice: from the fifth token on
PLAIN = builders.PARTS["lora_qv"]
ACTIVATED = PartSpec("lora", {**PLAIN.config, "invocation": list(CALL)})


def residents(family: str):
    head = HeadSpec(
        "causal_lm", 1, None, False, "tokens", (), "next_token", vocabulary=builders.VOCABULARY, width=builders.HIDDEN
    )
    parts = [[ACTIVATED], [PLAIN], []]
    return builders.in_one_arena([builders.adapter(family, own, head, seed=3) for own in parts], slack=2)


@pytest.mark.parametrize("family", ["gpt2", "llama", "qwen3"])
def test_it_acts_from_the_last_call_on(family):
    backbone, (activated, plain, _) = builders.backbone(family), residents(family)
    rows = [Row(members, None, None, ids) for members, ids in (
        ((activated,), IDS), ((plain,), IDS), ((), IDS), ((activated,), IDS[4:]), ((activated,), IDS[:2]),
    )]  # fmt: skip
    waiting, whole, bare, first, never = backbone.run(rows, ["hidden_state"] * 5)
    assert torch.allclose(waiting[:4], bare[:4], atol=1e-5)
    assert all((waiting[i] - bare[i]).abs().max() > 1e-3 for i in range(4, 8))
    assert (waiting[4:] - whole[4:]).abs().max() > 1e-3  # keys and values in front of the call are the backbone's own
    alone = backbone.run([Row((plain,), None, None, IDS[4:])], ["hidden_state"])[0]
    assert torch.allclose(first, alone, atol=1e-5)
    assert torch.allclose(never, bare[:2], atol=1e-5)
    for row, together in zip(rows, (waiting, whole, bare, first, never), strict=True):
        assert torch.allclose(backbone.run([row], ["hidden_state"])[0], together, atol=1e-5)


@pytest.mark.parametrize("compiled", [True, False])
def test_rows_of_one_adapter_are_called_where_each_calls_it(compiled):
    backbone, (activated, _, head) = builders.backbone("llama", compiled=compiled), residents("llama")
    texts = [IDS, IDS[::-1].copy(), np.array([9, 4, 7, 7, 7]), np.array([5, 5, 9, 4]), np.array([9, 4])]
    rows = [Row((activated,), head, None, ids) for ids in texts]
    for want in ("hidden_state", "logits"):
        for row, together in zip(rows, backbone.run(rows, [want] * len(rows)), strict=True):
            assert torch.allclose(backbone.run([row], [want])[0], together, atol=1e-5)


def test_what_is_read_behind_the_call_is_the_map_and_its_change():
    backbone, (activated, plain, _) = builders.backbone("llama"), residents("llama")
    seen: list[torch.Tensor] = []
    module = backbone.model.layers[0].self_attn.q_proj
    hook = module.register_forward_hook(lambda module, args, output: seen.append(output.clone()))
    for members in ((activated,), (plain,), ()):
        backbone.run([Row(members, None, None, IDS)], ["hidden_state"])
    hook.remove()
    waiting, whole, bare = (output.squeeze(0) for output in seen)
    assert torch.allclose(waiting[:4], bare[:4], atol=1e-6)
    assert torch.allclose(waiting[4:], whole[4:], atol=1e-6)  # the first layer reads the same words


@pytest.mark.parametrize(("ids", "place"), [(IDS, 4), (IDS[:4], 1), (IDS[1:3], 0), (IDS[:2], None), (IDS[:1], None)])
def test_a_row_is_called_where_the_invocation_begins_last(ids, place):
    activated, plain, _ = residents("gpt2")
    row = called(Row((activated,), None, None, ids))
    assert (row.called, row.members) == ((place, (activated,)) if place is not None else (None, ()))
    assert called(row) is row
    other = Row((plain,), None, None, ids)
    assert called(other) is other
    told = Row((activated,), None, None, ids, called=0)
    assert called(told) is told


def test_it_is_arranged_with_no_other():
    activated, plain, _ = residents("gpt2")
    for members in ((activated, plain), (plain, activated), (add((plain,), (activated,)),)):
        for ids in (IDS, IDS[:2]):  # called or not: nobody's adapter is left out
            row = Row(members, None, None, ids)
            assert called(row) is row
            with pytest.raises(InvalidArrangement, match="can be arranged with no other"):
                check_alone(row)
            with pytest.raises(InvalidRows, match="can be arranged with no other"):
                builders.backbone("gpt2").run([row], ["hidden_state"])
    for members in ((activated,), (plain, plain), ()):
        check_alone(Row(members, None, None, IDS))


@pytest.mark.parametrize("cached", [True, False])
def test_what_goes_on_is_called_as_its_prompt_was(cached):
    backbone, (activated, _, head) = builders.backbone("gpt2"), residents("gpt2")
    greedy = {"do_sample": False, "max_new_tokens": 5, "min_new_tokens": 5, "use_cache": cached}
    rows = [
        Row((activated,), head, None, IDS),
        Row((activated,), head, None, np.array([5, 9])),
        Row((), head, None, IDS),
    ]
    tokens = generate(backbone, rows, **greedy)
    for row, made in zip(rows, tokens, strict=True):
        ids, place = row.input_ids, called(row)
        for token in made[-5:].tolist():
            (scores,) = backbone.run([replace(place, input_ids=ids)], ["logits"])
            assert int(scores[-1].argmax()) == token
            ids = np.append(ids, token)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"invocation": []}, "list of 1 to 256"),
        ({"invocation": "x"}, "list of 1 to 256"),
        ({"invocation": [builders.VOCABULARY]}, "ids below"),
        ({"invocation": [True]}, "ids below"),
        ({"sites": {"model/words": {"rank": 2, "scaling": 1.0}}}, "inside of the layers"),
        ({"sites": {"0/attn_q": {"rank": 2, "scaling": 1.0, "gated": True}}}, "neither a gate"),
        ({"sites": {"0/attn_q": {"rank": 2, "scaling": 1.0, "base_bias": True}}}, "neither a gate"),
    ],
)
def test_what_can_not_be_called_is_refused(change, message):
    manifest = Manifest("adapter", builders.requires("gpt2"), (replace(ACTIVATED, config=ACTIVATED.config | change),))
    with pytest.raises(Misfit, match=message):
        expected(manifest, builders.profile("gpt2"))


def test_it_is_an_adapter_of_one_part_of_a_causal_model():
    more = (ACTIVATED, builders.PARTS["norms"])
    for family, parts in (("gpt2", more), ("bert", (ACTIVATED,))):
        with pytest.raises(Misfit, match=r"has one part|causal model"):
            expected(Manifest("adapter", builders.requires(family), parts), builders.profile(family))
