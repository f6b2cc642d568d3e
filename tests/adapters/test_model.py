import numpy as np
import pytest
import torch
from torch.nn import functional
from transformers import AutoModel, set_seed

from adapters.batch.rows import Row
from adapters.door.blocks import Average, BatchSplit, Fuse, MultiTask, Parallel, Split, Stack
from adapters.errors import InvalidRow
from adapters.model import AdapterModel
from adapters.weights import alone
from tests.adapters import builders

NAMES = ["seq_bn", "double_seq_bn", "lora_qv", "ia3", "prefix_flat", "invertible", "prompt_after_bos", "loreft"]


@pytest.fixture(scope="module")
def model() -> AdapterModel:
    """Adapters of many methods, each with a head of its own name, and a fusion."""
    set_seed(0)
    made = AdapterModel.from_pretrained(builders.folder("bert"))
    for i, name in enumerate(NAMES):
        made.keep(made.adapters, name, builders.package("bert", [builders.PARTS[name]], seed=i), frozen=i % 2 == 0)
        made.keep(made.heads, name, builders.package("bert", [], builders.HEADS["two_layers"], seed=i))
    made.keep(made.adapters, "headless", builders.package("bert", [builders.PARTS["seq_bn"]], seed=9))
    made.keep(made.heads, "tags", builders.package("bert", [], builders.HEADS["tagging"]))
    made.keep(made.heads, "pooled", builders.package("bert", [], builders.HEADS["pooler"]))
    made.add_adapter_fusion(["seq_bn", "headless"])
    return made


def batch() -> dict[str, torch.Tensor]:
    rows = [builders.ids(seed, length) for seed, length in ((1, 5), (2, 8), (3, 3))]
    ids, mask = torch.zeros(3, 8, dtype=torch.long), torch.zeros(3, 8, dtype=torch.long)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = torch.from_numpy(row)
        mask[i, : len(row)] = 1
    return {"input_ids": ids, "attention_mask": mask, "token_type_ids": mask * (torch.arange(8) > 2)}


def one_row(model: AdapterModel, i: int, **call):
    """The same row on its own, without padding."""
    inputs = batch()
    own = inputs["attention_mask"][i] == 1
    return model(**{name: tensor[i][own][None] for name, tensor in inputs.items()}, **call)


def one_row_of_choices(model: AdapterModel, i: int) -> torch.Tensor:
    """The score of one choice, asked three times over."""
    inputs = batch()
    own = inputs["attention_mask"][i] == 1
    thrice = {name: tensor[i][own].expand(1, 3, -1) for name, tensor in inputs.items()}
    return model(**thrice, adapter_names="lora_qv", head="choose").logits[0, :1]


def close(one: torch.Tensor, other: torch.Tensor) -> bool:
    return torch.allclose(one, other, atol=1e-5)


def test_the_bare_backbone_is_transformers(model):
    plain = AutoModel.from_pretrained(builders.folder("bert"), attn_implementation="eager").eval()
    inputs = batch()
    with torch.no_grad():
        expected = plain(**inputs, output_hidden_states=True)
    found = model(**inputs, adapter_names=[], output_hidden_states=True)
    own = inputs["attention_mask"] == 1
    assert close(found.last_hidden_state[own], expected.last_hidden_state[own])
    assert not found.last_hidden_state[~own].any()
    for layer, plain_layer in zip(found.hidden_states, expected.hidden_states, strict=True):
        assert close(layer[own], plain_layer[own])


@pytest.mark.parametrize("name", NAMES)
def test_every_row_answers_as_the_service_does(model, name):
    inputs = batch()
    adapter, head = (shelf[name].folded(model.backbone) for shelf in (model.adapters, model.heads))
    flat = torch.cat([adapter.flat, head.flat]).detach()
    there = alone(adapter)
    there = type(there)(adapter, flat, 0, 0)
    answers = type(there)(head, flat, adapter.flat.numel() // 64, 0)
    own = inputs["attention_mask"].bool().numpy()
    rows = [
        Row((there,), answers, None, np.asarray(ids)[mask], np.asarray(types)[mask])
        for ids, types, mask in zip(inputs["input_ids"], inputs["token_type_ids"], own, strict=True)
    ]
    expected = torch.stack(model.backbone.run(rows, ["logits"] * 3))
    assert close(model(**inputs, adapter_names=name).logits, expected)


def test_padding_on_either_side_changes_nothing(model):
    inputs = batch()
    shifts = (8 - inputs["attention_mask"].sum(1)).tolist()
    left = {k: torch.stack([row.roll(s) for row, s in zip(v, shifts, strict=True)]) for k, v in inputs.items()}
    call = {"adapter_names": ["invertible", "lora_qv"], "head": "tags"}
    right, moved = model(**inputs, **call).logits, model(**left, **call).logits
    for i, shift in enumerate(shifts):
        assert close(moved[i].roll(-shift, 0), right[i])
        assert close(right[i, : 8 - shift], one_row(model, i, **call).logits[0])


def test_a_batch_split_gives_every_row_its_own_adapters_and_heads(model):
    setup = BatchSplit("lora_qv", ["invertible", "seq_bn"], batch_sizes=[1, 2])
    found = model(**batch(), adapter_names=setup, labels=torch.tensor([0, 1, 2]))
    first, second = found.head_outputs
    assert close(first.logits, one_row(model, 0, adapter_names="lora_qv").logits)
    for i in (1, 2):
        assert close(second.logits[i - 1], one_row(model, i, adapter_names=["invertible", "seq_bn"]).logits[0])
    expected = functional.cross_entropy(first.logits, torch.tensor([0]))
    expected = expected + functional.cross_entropy(second.logits, torch.tensor([1, 2]))
    assert torch.allclose(found.loss, expected)
    whole = model(**batch(), adapter_names=setup, head="tags")
    assert whole.logits.shape == (3, 8, 2)
    shares = BatchSplit("seq_bn", ["invertible", "seq_bn"], "lora_qv", batch_sizes=1)
    assert [len(output.logits) for output in model(**batch(), adapter_names=shares).head_outputs] == [1, 1, 1]
    alike = BatchSplit("seq_bn", ["invertible", "seq_bn"], batch_sizes=[1, 2])
    assert model(**batch(), adapter_names=alike).logits.shape == (3, 3)


def test_a_batch_split_inside_of_a_stack_shares_what_is_below(model):
    mixed = model(**batch(), adapter_names=["invertible", BatchSplit("ia3", "seq_bn", batch_sizes=[2, 1])])
    assert close(mixed.head_outputs[1].logits, one_row(model, 2, adapter_names=["invertible", "seq_bn"]).logits)


def test_parallel_answers_once_per_branch(model):
    found = model(
        **batch(), adapter_names=Parallel("seq_bn", Stack("invertible", "ia3")), labels=torch.tensor([0, 1, 2])
    )
    assert len(found.head_outputs) == 2
    for output, names in zip(found.head_outputs, ("seq_bn", ["invertible", "ia3"]), strict=True):
        assert close(output.logits, model(**batch(), adapter_names=names).logits)
    assert torch.allclose(found.loss, sum(output.loss for output in found.head_outputs))


def test_a_multi_task_chooses_by_the_rows_task(model):
    setup = Stack("invertible", MultiTask("seq_bn", "lora_qv"))
    tasks = [1, 0, 1]
    found = model(**batch(), adapter_names=setup, task_ids=torch.tensor(tasks), head="tags").logits
    for i, task in enumerate(tasks):
        names = ["invertible", ("seq_bn", "lora_qv")[task]]
        own = int(batch()["attention_mask"][i].sum())
        assert close(found[i, :own], one_row(model, i, adapter_names=names, head="tags").logits[0])
    for wrong in (None, [1, 0], [0, 1, 2], [0, 1, -1]):
        with pytest.raises(InvalidRow, match="task"):
            model(**batch(), adapter_names=setup, task_ids=wrong)


@pytest.mark.parametrize(
    "setup",
    [
        Fuse("seq_bn", "headless"),
        Average("seq_bn", "headless", weights=[1, 2]),
        {"sum": ["lora_qv", "lora_qv"]},
        Split("seq_bn", "headless", splits=[2, 6]),
        ["lora_qv", {"fuse": ["seq_bn", "headless"]}],
    ],
)
def test_other_compositions_mean_the_same_row_by_row(model, setup):
    found = model(**batch(), adapter_names=setup, head="pooled").logits
    for i in range(3):
        assert close(found[i], one_row(model, i, adapter_names=setup, head="pooled").logits[0])
    assert not close(found, model(**batch(), adapter_names="seq_bn", head="pooled").logits)


def test_heads_are_chosen_by_call_then_adapter_then_what_is_active(model):
    model.active_head = "tags"
    try:
        assert model(**batch(), adapter_names="headless").logits.shape == (3, 8, 2)
        assert model(**batch(), adapter_names="seq_bn").logits.shape == (3, 3)
        assert model(**batch(), adapter_names="seq_bn", head="pooled").logits.shape == (3, 2)
        model.set_active_adapters("seq_bn")
        assert model(**batch()).logits.shape == (3, 3)
        model.active_head = "tags"
        assert model(**batch()).logits.shape == (3, 8, 2)
        model.active_head = None
        model.set_active_adapters("headless")
        assert "last_hidden_state" in model(**batch())
    finally:
        model.set_active_adapters(None)
        model.active_head = None
    with pytest.raises(ValueError, match="no head 'x'"):
        model(**batch(), head="x")


def test_tokens_of_a_prompt_are_in_no_answer(model):
    found = model(**batch(), adapter_names="prompt_after_bos", head="tags", output_hidden_states=True)
    assert found.logits.shape == (3, 8, 2)
    assert all(state.shape == (3, 8, builders.HIDDEN) for state in found.hidden_states)
    labels = torch.where(batch()["attention_mask"] == 1, 1, -100)
    counted = model(**batch(), adapter_names="prompt_after_bos", head="tags", labels=labels)
    expected = functional.cross_entropy(counted.logits.transpose(1, 2), labels)
    assert torch.allclose(counted.loss, expected)


def test_multiple_choice_takes_a_row_per_choice(model):
    model.add_multiple_choice_head("choose", num_choices=3, overwrite_ok=True)
    inputs = {name: tensor[None] for name, tensor in batch().items()}
    setup = BatchSplit("lora_qv", batch_sizes=[1])
    found = model(**inputs, adapter_names=setup, head="choose", labels=torch.tensor([2]))
    rows = torch.cat([one_row_of_choices(model, i) for i in range(3)])
    assert close(found.logits[0], rows)
    assert found.logits.shape == (1, 3)
    assert torch.allclose(found.loss, functional.cross_entropy(found.logits, torch.tensor([2])))


def test_word_starts_count_padding_as_the_ids_do(model):
    model.add_dependency_parsing_head("parse", num_labels=3, overwrite_ok=True)
    ids = torch.from_numpy(builders.ids(4, 6))[None]
    pads = torch.zeros(1, 2, dtype=torch.long)
    left, mask = torch.cat([pads, ids], 1), torch.cat([pads, torch.ones_like(ids)], 1)
    plain = model(ids, word_starts=torch.tensor([[1, 2, 5, 0]]), adapter_names="seq_bn", head="parse")
    moved = model(left, mask, word_starts=torch.tensor([[3, 4, 7, 0]]), adapter_names="seq_bn", head="parse")
    assert close(plain.arc_preds, moved.arc_preds)
    assert close(plain.rel_preds, moved.rel_preds)
    with pytest.raises(InvalidRow, match="needs word_starts"):
        model(ids, head="parse")


def test_answers_come_as_tuples_on_demand(model):
    made = model(**batch(), adapter_names="seq_bn", labels=torch.tensor([0, 1, 2]), return_dict=False)
    assert isinstance(made, tuple)
    assert made[1].shape == (3, 3)


def test_nothing_that_was_given_is_left_out_silently(model):
    with pytest.raises(TypeError, match="forward takes no 'position_ids'"):
        model(**batch(), position_ids=torch.zeros(3, 8))
    with pytest.raises(TypeError, match="forward takes no 'output_attentions'"):
        model(**batch(), output_attentions=True)
    assert model(**batch(), head="tags", position_ids=None, output_attentions=False).logits.shape == (3, 8, 2)
    with pytest.raises(ValueError, match="no adapter 'x'"):
        model(**batch(), adapter_names=["x"])
    with pytest.raises(InvalidRow, match="equally many branches"):
        split = BatchSplit(Parallel("seq_bn", "ia3"), "ia3", batch_sizes=[1, 2])
        model(**batch(), adapter_names=split)
    with pytest.raises(InvalidRow, match="outside of the vocabulary"):
        model(torch.tensor([[1, builders.VOCABULARY]]), head="tags")


def test_goals_need_a_head_that_looks_at_them(model):
    model.active_head = None
    with pytest.raises(InvalidRow, match="labels mean nothing"):
        model(**batch(), adapter_names=[], labels=torch.tensor([0, 1, 0]))
    with pytest.raises(InvalidRow, match="start_positions mean nothing"):
        model(**batch(), adapter_names="seq_bn", start_positions=torch.tensor([0, 1, 0]))


def test_two_passes_do_not_mix_after_one_failed(model):
    before = model(**batch(), adapter_names="seq_bn").logits
    with pytest.raises(InvalidRow):
        model(torch.ones(1, 60, dtype=torch.long), head="tags", adapter_names="lora_qv")
    assert torch.equal(model(**batch(), adapter_names="seq_bn").logits, before)
