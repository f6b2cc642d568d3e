"""`transformers.Trainer`, unchanged, over `AdapterModel`."""

import pytest
import torch
from safetensors.torch import load_file
from transformers import Trainer, TrainingArguments, set_seed

from adapters.door.blocks import Fuse
from adapters.model import AdapterModel
from tests.adapters import builders


def data(rows: int = 32) -> list[dict]:
    generator = torch.Generator().manual_seed(0)
    found = []
    for _ in range(rows):
        ids = torch.randint(5, 80, (7,), generator=generator)
        found.append({"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": int(ids[0] > 40)})
    return found


def arguments(folder, **more) -> TrainingArguments:
    plain = {"num_train_epochs": 1, "per_device_train_batch_size": 8, "learning_rate": 1e-2, "save_strategy": "no"}
    return TrainingArguments(str(folder), use_cpu=True, report_to=[], disable_tqdm=True, **{**plain, **more})


def fresh(config: str = "lora", seed: int = 1) -> AdapterModel:
    set_seed(seed)
    model = AdapterModel.from_pretrained(builders.folder("bert"))
    model.add_adapter("task", config)
    model.train_adapter("task")
    model.add_classification_head("task", num_labels=2)
    return model


def state(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def changed(before: dict[str, torch.Tensor], module: torch.nn.Module) -> set[str]:
    return {name for name, tensor in module.state_dict().items() if not torch.equal(before[name], tensor)}


CONFIGS = [
    "seq_bn_inv",
    "lora",
    "dora",
    "ia3",
    "vera",
    "mtl_lora",
    "compacter[reduction_factor=8,phm_dim=2]",
    "prefix_tuning[prefix_length=3,bottleneck_size=4]",
    "prompt_tuning",
    "loreft",
    "noreft",
    "unipelt",
    "mam",
]


@pytest.mark.parametrize("config", CONFIGS)
def test_every_method_trains_while_the_backbones_bits_stay(config, tmp_path):
    model = fresh(config)
    frozen, before = state(model.backbone.model), state(model)
    Trainer(model, arguments(tmp_path, num_train_epochs=2), train_dataset=data()).train()
    assert changed(frozen, model.backbone.model) == set()
    moved = changed(before, model)
    assert {name.split(".")[0] for name in moved} == {"adapters", "heads"}
    assert not any("base" in name or "fixed" in name or "model/vera" in name for name in moved)


def test_what_was_learned_is_what_is_evaluated_saved_and_served(tmp_path):
    model = fresh()
    trainer = Trainer(model, arguments(tmp_path, num_train_epochs=8), train_dataset=data(), eval_dataset=data())
    before = trainer.evaluate()["eval_loss"]
    trainer.train()
    after = trainer.evaluate()["eval_loss"]
    assert after < 0.8 * before
    model.save_adapter(tmp_path / "saved", "task")
    served = AdapterModel.from_pretrained(builders.folder("bert"))
    served.load_adapter(tmp_path / "saved")
    again = Trainer(served, arguments(tmp_path), eval_dataset=data()).evaluate()["eval_loss"]
    assert again != after  # nothing is active yet: the head alone
    served.set_active_adapters("task")
    assert Trainer(served, arguments(tmp_path), eval_dataset=data()).evaluate()["eval_loss"] == pytest.approx(after)


def test_a_frozen_adapter_answers_as_it_was_trained_and_not_as_it_was_before(tmp_path):
    model = fresh()
    ids = torch.stack([row["input_ids"] for row in data(3)])
    model.freeze_adapter("task")
    model.freeze_head("task")
    before = model(ids).logits
    model.train_adapter("task")
    Trainer(model, arguments(tmp_path), train_dataset=data()).train()
    trained = model(ids).logits.detach()
    model.freeze_adapter("task")
    model.freeze_head("task")
    assert torch.equal(model(ids).logits, trained)
    assert not torch.equal(trained, before)


def test_a_checkpoint_is_small_and_training_resumes_from_it_to_the_bit(tmp_path):
    steps = {"max_steps": 8, "save_strategy": "steps", "save_steps": 4}
    model = fresh("loreft")
    Trainer(model, arguments(tmp_path, **steps), train_dataset=data()).train()
    written = load_file(tmp_path / "checkpoint-4" / "model.safetensors")
    assert set(written) == set(model.state_dict())
    assert not any(tensor.shape == (builders.VOCABULARY, builders.HIDDEN) for tensor in written.values())
    other = fresh("loreft", seed=2)
    resumed = Trainer(other, arguments(tmp_path / "resumed", **steps), train_dataset=data())
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-4"))
    assert changed(state(model), other) == set()


def test_training_resumes_from_a_checkpoint_with_fewer_adapters(tmp_path):
    steps = {"max_steps": 8, "save_strategy": "steps", "save_steps": 4}
    Trainer(fresh(), arguments(tmp_path, **steps), train_dataset=data()).train()
    more = fresh(seed=2)
    more.add_adapter("other")
    more.train_adapter("task")
    before = {name: tensor for name, tensor in state(more).items() if name.startswith("adapters.other")}
    resumed = Trainer(more, arguments(tmp_path / "resumed", **steps), train_dataset=data())
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-4"))
    ended = load_file(tmp_path / "checkpoint-8" / "model.safetensors")
    now = state(more)
    assert all(torch.equal(now[name], tensor) for name, tensor in (ended | before).items())


def test_an_orthogonal_reft_stays_orthogonal_even_under_weight_decay(tmp_path):
    model = fresh("loreft[r=3]")
    before = model.adapters["task"].package().tensors
    Trainer(model, arguments(tmp_path, num_train_epochs=4, weight_decay=0.5), train_dataset=data()).train()
    tensors = model.adapters["task"].package().tensors
    for name, tensor in tensors.items():
        if name.endswith(".original"):
            assert bool((tensor.diagonal().abs() == 1).all())
            assert torch.equal(tensor, before[name]) == ("units.1" in name)  # AdapterHub's default edits no last token
    for address, blocks in model.adapters["task"].folded(model.backbone).blocks.items():
        adapter = model.adapters["task"].folded(model.backbone)
        for name, span in blocks[0].spans.items():
            if name.endswith("up.weight"):
                start = span.offset * 64
                size = span.shape[0] * span.shape[1]
                up = adapter.flat[start : start + size].view(span.shape).detach()
                assert torch.allclose(up.T @ up, torch.eye(3), atol=1e-5), address


def test_only_the_fusion_and_the_head_train_over_frozen_adapters(tmp_path):
    set_seed(0)
    model = AdapterModel.from_pretrained(builders.folder("bert"))
    for name in ("a", "b"):
        model.add_adapter(name)
    model.add_adapter_fusion(Fuse("a", "b"))
    model.add_classification_head("ab")
    model.train_adapter_fusion(Fuse("a", "b"))
    before = state(model)
    Trainer(model, arguments(tmp_path), train_dataset=data()).train()
    assert {name.split(".")[0] for name in changed(before, model)} == {"fusions", "heads"}


def test_a_vocabulary_and_its_language_adapter_train_under_a_frozen_task(tmp_path):
    set_seed(0)
    model = AdapterModel.from_pretrained(builders.folder("bert"))
    model.add_adapter("lang", "seq_bn_inv")
    model.add_adapter("task")
    model.add_classification_head("task")
    words = _Words()
    model.add_embeddings("cipher", words, reference_embedding="default", reference_tokenizer=words)
    model.train_adapter(["lang", "task"], train_embeddings=True)
    model.freeze_adapter("task")
    model.freeze_head("task")
    before = state(model)
    Trainer(model, arguments(tmp_path), train_dataset=data()).train()
    moved = changed(before, model)
    assert {name.split(".")[0] for name in moved} == {"adapters", "embeddings"}
    assert not any(name.startswith("adapters.task") for name in moved)


def test_tagging_and_questions_are_evaluated_by_their_own_goals(tmp_path):
    model = fresh()
    model.add_tagging_head("tags", num_labels=3)
    rows = [{**row, "labels": (row["input_ids"] % 3)} for row in data(16)]
    trainer = Trainer(model, arguments(tmp_path), train_dataset=rows, eval_dataset=rows)
    trainer.train()
    predicted = trainer.predict(rows)
    assert predicted.predictions.shape == (16, 7, 3)
    assert predicted.metrics["test_loss"] > 0
    model.add_qa_head("answers")
    spans = [
        {**{k: row[k] for k in ("input_ids", "attention_mask")}, "start_positions": 1, "end_positions": 3}
        for row in data(16)
    ]
    names = ["start_positions", "end_positions"]
    trainer = Trainer(model, arguments(tmp_path, label_names=names), train_dataset=spans, eval_dataset=spans)
    before = trainer.evaluate()["eval_loss"]
    trainer.train()
    assert trainer.evaluate()["eval_loss"] < before


class _Words:
    """The least that a tokenizer has to be."""

    def get_vocab(self) -> dict[str, int]:
        return {f"w{i}": i for i in range(builders.VOCABULARY)}
