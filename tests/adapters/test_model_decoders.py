"""The Python door on decoders: training with the backbone frozen, and generation by names."""

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from torch.nn import functional
from transformers import AutoModelForCausalLM, set_seed

from adapters.door.blocks import BatchSplit, Parallel, Stack
from adapters.errors import InvalidRow
from adapters.model import AdapterModel
from adapters.training import Example, TrainingSettings, train
from tests.adapters import builders

METHODS = [  # and how far the loss has to fall
    ("gpt2", "par_bn", 0.7),
    ("llama", "seq_bn", 0.7),
    ("llama", "prefix_tuning_flat", 0.9),
    ("mistral", "lora", 0.7),
    ("qwen2", "double_seq_bn", 0.7),
    ("qwen3", "ia3", 0.7),
]


def batch() -> dict[str, torch.Tensor]:
    ids = torch.from_numpy(builders.ids(5, 24)).view(3, 8)
    mask = torch.ones_like(ids)
    mask[1, 5:] = 0  # padding behind
    mask[2, :3] = 0  # and in front
    return {"input_ids": ids, "attention_mask": mask}


@pytest.mark.parametrize(("family", "method", "falls"), METHODS)
def test_a_language_model_learns_its_text_and_the_backbone_stays(family, method, falls):
    set_seed(1)
    model = AdapterModel.from_pretrained(builders.folder(family))
    before = {name: tensor.clone() for name, tensor in model.backbone.model.state_dict().items()}
    model.add_adapter("a", config=method)
    model.add_causal_lm_head("a", layers=1)
    model.train_adapter("a")
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=2e-2)
    labels = batch()["input_ids"].masked_fill(batch()["attention_mask"] == 0, -100)
    losses = []
    for _ in range(12):
        optimizer.zero_grad()
        value = model(**batch(), labels=labels).loss
        value.backward()
        optimizer.step()
        losses.append(float(value.detach()))
    assert losses[-1] < falls * losses[0]
    assert all(torch.equal(before[name], tensor) for name, tensor in model.backbone.model.state_dict().items())


def test_the_loss_of_a_language_model_is_that_of_the_next_tokens():
    model = AdapterModel.from_pretrained(builders.folder("llama"))
    model.add_causal_lm_head("words", layers=1)
    ids = batch()["input_ids"][:1]
    out = model(input_ids=ids, labels=ids, adapter_names=[], head="words")
    assert torch.allclose(out.loss, functional.cross_entropy(out.logits[0, :-1], ids[0, 1:]), atol=1e-6)


@pytest.mark.parametrize("family", ["gpt2", "qwen3"])
def test_texts_are_classified_by_their_last_tokens(family):
    words = ["[UNK]", *(f"w{i}" for i in range(80))]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randint(5, 80, (120, 5), generator=generator).tolist()
    examples = [Example(" ".join(f"w{i}" for i in row), "low" if row[-1] < 40 else "high") for row in drawn]
    report = train(builders.backbone(family), tokenizer, examples, TrainingSettings("lora", "classification", 12, 2e-2))
    assert report.losses[-1] < 0.75 * report.losses[0]
    assert report.package.manifest.head.pooling == "counted_token"


@pytest.fixture(scope="module")
def speaking(tmp_path_factory) -> AdapterModel:
    folder = tmp_path_factory.mktemp("speaking")
    torch.manual_seed(4)
    plain = AutoModelForCausalLM.from_pretrained(builders.folder("gpt2"))
    plain.save_pretrained(folder)
    model = AdapterModel.from_pretrained(folder)
    for seed, name in enumerate(("seq_bn", "lora_qv")):
        model.keep(model.adapters, name, builders.package("gpt2", [builders.PARTS[name]], seed=seed))
    model.load_lm_head(folder)
    return model


def test_rows_generate_by_names_and_padding_on_either_side_changes_nothing(speaking):
    settings = {"max_new_tokens": 4, "eos_token_id": None}
    split = BatchSplit("seq_bn", Stack("lora_qv"), "seq_bn", batch_sizes=[1, 1, 1])
    together = speaking.generate(**batch(), adapter_names=split, **settings)
    assert together.shape == (3, 12)
    inputs = batch()
    for i, name in enumerate(("seq_bn", "lora_qv", "seq_bn")):
        own = inputs["input_ids"][i][inputs["attention_mask"][i] == 1][None]
        assert torch.equal(speaking.generate(own, adapter_names=name, **settings)[0, -4:], together[i, -4:])


def test_what_can_not_generate_is_refused(speaking):
    with pytest.raises(InvalidRow, match="BatchSplit"):
        speaking.generate(**batch(), adapter_names=Parallel("seq_bn", "lora_qv"))
    speaking.add_classification_head("labels")
    with pytest.raises(InvalidRow, match="causal_lm head"):
        speaking.generate(**batch(), adapter_names="seq_bn", head="labels")
    speaking.active_head = "lm_head"
