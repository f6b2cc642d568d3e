import pytest
import torch
from safetensors.torch import load_file
from transformers import (
    AutoModelForSequenceClassification,
    DebertaV2Config,
    DebertaV2Model,
    DistilBertConfig,
    DistilBertModel,
    ModernBertConfig,
    ModernBertModel,
)

from adapters.formats.peft import folder as peft
from adapters.formats.peft import heads
from adapters.formats.peft.drawn import drawn
from tests.adapters.formats.folders import H, peft_config, peft_folder, peft_lora_keys, profile

WIDE, LAYERS = 12, 3
MODELS = {
    "deberta-v2": (
        DebertaV2Model,
        DebertaV2Config(
            vocab_size=30, hidden_size=WIDE, num_hidden_layers=LAYERS, num_attention_heads=2, intermediate_size=16,
            pooler_hidden_size=WIDE,
        ),
    ),
    "distilbert": (DistilBertModel, DistilBertConfig(vocab_size=30, dim=WIDE, n_layers=LAYERS, n_heads=2, hidden_dim=16)),
    "modernbert": (
        ModernBertModel,
        ModernBertConfig(
            vocab_size=30, hidden_size=WIDE, num_hidden_layers=LAYERS, num_attention_heads=2, intermediate_size=16,
            pad_token_id=0, bos_token_id=1, eos_token_id=2, cls_token_id=1, sep_token_id=2,
        ),
    ),
}  # fmt: skip
QUERY = "deberta.encoder.layer.0.attention.self.query_proj"
SAVED = peft_lora_keys([QUERY]) | {
    "base_model.model.classifier.weight": (3, H),
    "base_model.model.classifier.bias": (3,),
}


@pytest.mark.parametrize("family", MODELS)
def test_transformers_draws_the_same_after_the_seed(tmp_path, family):
    model, config = MODELS[family]
    model(config).save_pretrained(tmp_path)
    torch.manual_seed(7)
    held = AutoModelForSequenceClassification.from_pretrained(tmp_path, num_labels=3).state_dict()
    classifier = {name: tensor for name, tensor in held.items() if name.startswith("classifier.")}
    parts = drawn(classifier, family, LAYERS, 7)
    heads = {name for name in held if name.split(".")[0] in ("pooler", "pre_classifier", "head")}
    assert parts.keys() == heads
    for name, tensor in parts.items():
        assert torch.equal(tensor, held[name]), name
    assert not all(torch.equal(tensor, held[name]) for name, tensor in drawn(classifier, family, LAYERS, 8).items())


def test_only_what_the_class_has_and_the_folder_lacks_is_drawn():
    classifier = {"classifier.weight": torch.ones(3, WIDE), "classifier.bias": torch.ones(3)}

    def parts(held, family, task="SEQ_CLS", seed=7):
        return heads.left_out({"task_type": task}, held, family, LAYERS, seed)

    assert parts(classifier, "deberta-v2").keys() == {"pooler.dense.weight", "pooler.dense.bias"}
    assert parts(classifier, "modernbert", "TOKEN_CLS").keys() == {"head.dense.weight", "head.norm.weight"}
    assert parts(classifier, "deberta-v2", "TOKEN_CLS") == {}, "that class has no pooler"
    assert parts(classifier, "deberta-v2", seed=None) == {}
    assert parts(classifier | {"pooler.dense.weight": torch.ones(WIDE, WIDE)}, "deberta-v2") == {}, "half was saved"
    assert parts(classifier, "bert") == {}
    assert parts({}, "deberta-v2") == {}
    assert parts(classifier, "deberta-v2", None) == {}


def test_a_head_with_a_drawn_part_says_so_and_is_written_whole(tmp_path):
    folder = peft_folder(tmp_path / "in", peft_config(target_modules=[QUERY]), SAVED)
    package = peft.read(folder, profile("deberta-v2"), head_seed=7)
    assert package.manifest.source["head_seed"] == 7
    warned = [warning for warning in package.manifest.source["warnings"] if "head_seed" in warning]
    assert [warning.split()[0] for warning in warned] == ["pooler.dense.bias", "pooler.dense.weight"]
    peft.write(package, tmp_path / "out")
    stored = load_file(tmp_path / "out" / "adapter_model.safetensors")
    assert torch.equal(stored["base_model.model.pooler.dense.weight"], package.tensors["head/0/weight"])
    again = peft.read(tmp_path / "out", profile("deberta-v2"))  # it needs no seed any more
    assert again.manifest.head == package.manifest.head
    assert again.manifest.source["adapter_config"]["modules_to_save"] == ["classifier", "pooler"]
    assert all(torch.equal(tensor, again.tensors[name]) for name, tensor in package.tensors.items())
