import pytest
from safetensors.torch import load_file

from adapters.formats.check import check
from adapters.formats.peft import folder as peft
from tests.adapters.formats.folders import CLASSIFIER, H, attention, peft_config, peft_folder, peft_lora_keys, profile
from tests.adapters.formats.peft.reading import FEATURE, QV, assert_same, basic, reasons


@pytest.mark.parametrize(
    ("changes", "keys", "pooling"),
    [
        ({"task_type": "TOKEN_CLS"}, CLASSIFIER, "tokens"),
        ({"task_type": None, "auto_mapping": {"base_model_class": "BertForTokenClassification"}}, CLASSIFIER, "tokens"),
        (
            {"modules_to_save": ["pooler", "classifier"]},
            CLASSIFIER
            | {"base_model.model.bert.pooler.dense.weight": (H, H), "base_model.model.bert.pooler.dense.bias": (H,)},
            "first_token",
        ),
    ],
)
def test_the_head_is_the_class_s(tmp_path, changes, keys, pooling):
    package = peft.read(basic(tmp_path / "in", peft_lora_keys(QV) | keys, **changes), profile())
    assert package.manifest.head.pooling == pooling
    peft.write(package, tmp_path / "out")
    assert_same(package, peft.read(tmp_path / "out", profile()))


def test_roberta_and_distilbert_heads_and_paths(tmp_path):
    keys = peft_lora_keys(attention("query", "value", prefix="roberta."))
    keys |= {
        f"base_model.model.classifier.{m}.{k}": ((H, H) if m == "dense" else (3, H))
        if k == "weight"
        else ((H,) if m == "dense" else (3,))
        for m in ("dense", "out_proj")
        for k in ("weight", "bias")
    }
    package = peft.read(basic(tmp_path / "r", keys), profile("roberta", has_pooler=False))
    assert (package.manifest.head.layers, package.manifest.head.activation) == (2, "tanh")
    keys = peft_lora_keys(
        [f"distilbert.transformer.layer.{i}.attention.{m}" for i in range(2) for m in ("q_lin", "v_lin")]
    )
    keys |= CLASSIFIER | {
        "base_model.model.pre_classifier.weight": (H, H),
        "base_model.model.pre_classifier.bias": (H,),
    }
    folder = basic(tmp_path / "d", keys, target_modules=["q_lin", "v_lin"])
    package = peft.read(folder, profile("distilbert", has_pooler=False))
    assert package.manifest.head.activation == "relu"
    check(package, profile("distilbert", has_pooler=False))


def test_a_head_without_the_pooler_it_needs_is_refused(tmp_path):
    (reason,) = reasons(basic(tmp_path), profile(has_pooler=False))
    assert "pooler" in reason


def test_features_have_no_head_and_no_prefix(tmp_path):
    keys = peft_lora_keys(attention("query", "value", prefix=""))
    package = peft.read(basic(tmp_path / "in", keys, **FEATURE), profile())
    assert package.manifest.head is None
    peft.write(package, tmp_path / "out")
    assert set(load_file(tmp_path / "out" / "adapter_model.safetensors")) == set(keys)


def test_a_part_of_the_head_that_was_not_saved_is_refused_with_the_remedy(tmp_path):
    root = "base_model.model."
    query = "deberta.encoder.layer.0.attention.self.query_proj"
    config = peft_config(target_modules=[query])
    saved = peft_lora_keys([query]) | {f"{root}classifier.weight": (3, H), f"{root}classifier.bias": (3,)}
    said = reasons(peft_folder(tmp_path / "without", config, saved), profile("deberta-v2"))
    assert len(said) == 2
    assert all("drawn anew at every load; train with 'pooler' in modules_to_save" in reason for reason in said)
    whole = saved | {f"{root}pooler.dense.weight": (H, H), f"{root}pooler.dense.bias": (H,)}
    spec = peft.read(peft_folder(tmp_path / "with", config, whole), profile("deberta-v2")).manifest.head
    assert (spec.layers, spec.activation, spec.pooling) == (2, "gelu", "first_token")
