"""AdapterHub's quick start, its own lines with `adapters.model` in the place of its library."""

import pytest
import torch
from transformers import AutoTokenizer, Trainer, TrainingArguments, set_seed

from adapters.model import AdapterModel
from tests.adapters.door.documents import bert_base_uncased

TEXTS = [
    ("the film is awesome", 1),
    ("a great plot and music", 1),
    ("a great film", 1),
    ("awesome music", 1),
    ("the plot is bad", 0),
    ("a boring film", 0),
    ("bad and boring music", 0),
    ("the film is boring", 0),
]


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A working folder with the model and the adapter that the document loads from the hub."""
    monkeypatch.chdir(tmp_path)
    bert_base_uncased(tmp_path)
    set_seed(0)
    model = AdapterModel.from_pretrained("bert-base-uncased")
    model.add_adapter("sst-2")
    model.add_classification_head("sst-2", num_labels=2, id2label={0: "negative", 1: "positive"})
    model.save_adapter("sentiment/sst-2@ukp", "sst-2")


@pytest.mark.usefixtures("hub")
def test_load_an_adapter_for_inference():
    model = AdapterModel.from_pretrained("bert-base-uncased")
    model.load_adapter("sentiment/sst-2@ukp")

    tokenizer = AutoTokenizer.from_pretrained("bert-base-uncased")
    tokens = tokenizer.tokenize("AdapterHub is awesome!")
    assert tokens == ["adapter", "##hub", "is", "awesome", "!"]
    input_tensor = torch.tensor([tokenizer.convert_tokens_to_ids(tokens)])
    outputs = model(input_tensor, adapter_names=["sst-2"])
    assert outputs.logits.shape == (1, 2)
    with pytest.raises(ValueError, match=r"no adapter 'sst-3'; there are: sst-2"):
        model(input_tensor, adapter_names=["sst-3"])


@pytest.mark.usefixtures("hub")
def test_train_a_new_task_adapter_and_save_it():
    tokenizer = AutoTokenizer.from_pretrained("bert-base-uncased")
    train_dataset = [{**tokenizer(text), "labels": label} for text, label in TEXTS]

    model = AdapterModel.from_pretrained("bert-base-uncased")
    model.add_adapter("sst-2")
    model.train_adapter(["sst-2"])
    model.add_classification_head("sst-2", num_labels=2)
    model.set_active_adapters([["sst-2"]])

    frozen = {name: tensor.clone() for name, tensor in model.backbone.model.state_dict().items()}
    training_args = TrainingArguments(
        "output-path", num_train_epochs=30, learning_rate=1e-2, use_cpu=True, report_to=[], disable_tqdm=True
    )
    trainer = Trainer(model=model, args=training_args, train_dataset=train_dataset, processing_class=tokenizer)
    trainer.train()
    model.save_all_adapters("output-path")

    assert all(torch.equal(frozen[name], tensor) for name, tensor in model.backbone.model.state_dict().items())
    again = AdapterModel.from_pretrained("bert-base-uncased")
    assert again.load_adapter("output-path/sst-2") == "sst-2"
    batch = tokenizer([text for text, _ in TEXTS], padding=True, return_tensors="pt")
    answers = again(**batch, adapter_names=["sst-2"]).logits
    assert answers.argmax(-1).tolist() == [label for _, label in TEXTS]
    assert torch.allclose(answers, model(**batch).logits, atol=1e-6)


@pytest.mark.usefixtures("hub")
def test_stacking_and_fusion_train_the_same_way():
    model = AdapterModel.from_pretrained("bert-base-uncased")
    for name in ("lang", "sst-2", "mnli"):
        model.add_adapter(name)
    model.train_adapter(["lang", "sst-2"])
    assert [model.adapters[name].trains for name in ("lang", "sst-2", "mnli")] == [True, True, False]
    fused = model.add_adapter_fusion(["sst-2", "mnli"])
    model.train_adapter_fusion({"fuse": ["sst-2", "mnli"]})
    assert fused == "sst-2,mnli"
    assert [model.adapters[name].trains for name in ("lang", "sst-2", "mnli")] == [False, False, False]
    assert model.fusions[fused].trains
