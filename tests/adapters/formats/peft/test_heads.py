import json
from dataclasses import replace
from importlib import import_module

import pytest
import torch
from safetensors.torch import load_file

from adapters.errors import Misfit
from adapters.formats import static_classes, static_heads
from adapters.formats.check import check
from adapters.formats.peft import folder as peft
from adapters.weights import Package
from tests.adapters import builders
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


def with_head_of(family, task):
    """A LoRA made here with a head like that of transformers' class for the task, and the modules that hold the head."""
    geometry, (*_, head) = builders.profile(family).geometry, static_classes.HEADS[family, task]
    between = geometry.embedding_size if task == static_classes.LANGUAGE and len(head.maps) > 1 else H
    out = geometry.vocabulary if task == static_classes.LANGUAGE else 1
    widths = [(H, between), (between, out)] if len(head.maps) > 1 else [(H, out)]
    generator = torch.Generator().manual_seed(3)
    made = {}
    for native, key in static_classes.names(head).items():
        down, up = widths[int(native.split("/")[1][0])]
        shape = (
            (between,) if ".norm" in native or "/norm" in native else (up, down) if native.endswith("weight") else (up,)
        )
        made[key] = torch.randn(shape, generator=generator)
    made |= {copy: made[f"{head.maps[-1]}.bias"] for copies in head.copies.values() for copy in copies}
    read = static_heads.read(made, family, task, static_heads.own_settings(geometry))
    adapter = builders.package(family, [builders.lora(("ffn_out",))])
    package = Package(replace(adapter.manifest, head=read.spec), adapter.tensors | read.tensors)
    return package, {f"base_model.model.{key}" for key in made}


@pytest.mark.parametrize(
    ("family", "task", "model_class", "modules"),
    [
        ("bert", "language", "BertForMaskedLM", ["cls"]),
        ("xlm-roberta", "language", "XLMRobertaForMaskedLM", ["lm_head"]),
        ("distilbert", "language", "DistilBertForMaskedLM", ["vocab_layer_norm", "vocab_projector", "vocab_transform"]),
        ("electra", "language", "ElectraForMaskedLM", ["generator_lm_head", "generator_predictions"]),
        ("albert", "language", "AlbertForMaskedLM", ["predictions"]),
        ("modernbert", "language", "ModernBertForMaskedLM", ["decoder", "head"]),
        ("deberta-v2", "choice", "DebertaV2ForMultipleChoice", ["classifier", "pooler"]),
    ],
)
def test_heads_that_peft_has_no_task_for_are_written_with_their_class(tmp_path, family, task, model_class, modules):
    package, keys = with_head_of(family, task)
    peft.write(package, tmp_path / "out")
    config = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert (config["task_type"], config["auto_mapping"]["base_model_class"]) == (None, model_class)
    assert config["modules_to_save"] == modules
    library = import_module(config["auto_mapping"]["parent_library"])
    assert hasattr(library, model_class)
    assert keys <= set(load_file(tmp_path / "out" / "adapter_model.safetensors"))
    back = peft.read(tmp_path / "out", builders.profile(family))
    assert back.manifest.head == package.manifest.head
    assert all(torch.equal(tensor, back.tensors[name]) for name, tensor in package.tensors.items())
    peft.write(back, tmp_path / "again")
    assert json.loads((tmp_path / "again" / "adapter_config.json").read_text()) == config


@pytest.mark.parametrize("family", ["bert", "roberta", "electra"])
def test_an_encoders_class_for_causal_language_modelling_fills_masks(tmp_path, family):
    package, _ = with_head_of(family, "language")
    peft.write(package, tmp_path / "in")
    path = tmp_path / "in" / "adapter_config.json"
    config = json.loads(path.read_text()) | {"task_type": "CAUSAL_LM", "auto_mapping": None}
    path.write_text(json.dumps(config))
    read = peft.read(tmp_path / "in", builders.profile(family))
    assert read.manifest.head == package.manifest.head
    peft.write(read, tmp_path / "out")
    assert json.loads((tmp_path / "out" / "adapter_config.json").read_text()) == config


@pytest.mark.parametrize("averaged", [False, True])
def test_a_head_of_modernbert_is_written_for_a_backbone_that_pools_as_it_does_alone(averaged, tmp_path):
    site = "model.layers.0.attn.Wo"
    root = "base_model.model."
    keys = peft_lora_keys([site]) | {
        f"{root}head.dense.weight": (H, H),
        f"{root}head.norm.weight": (H,),
        f"{root}classifier.weight": (3, H),
        f"{root}classifier.bias": (3,),
    }
    where = profile("modernbert", has_pooler=False)
    where = replace(where, geometry=replace(where.geometry, averaged=averaged))
    config = peft_config(target_modules=["layers.0.attn.Wo"], modules_to_save=["head", "classifier"])
    package = peft.read(peft_folder(tmp_path / "in", config, keys), where)
    assert package.manifest.head.pooling == ("mean" if averaged else "first_token")
    for source in (package.manifest.source, {}):
        peft.write(replace(package, manifest=replace(package.manifest, source=source)), tmp_path / "out")
        assert peft.read(tmp_path / "out", where).manifest.head == package.manifest.head
    other = replace(package.manifest.head, pooling="first_token" if averaged else "mean")
    with pytest.raises(Misfit, match="classifier_pooling"):
        peft.write(replace(package, manifest=replace(package.manifest, head=other)), tmp_path / "no")
    assert not (tmp_path / "no").exists()


@pytest.mark.parametrize("named", ["task_type", "auto_mapping"])
def test_the_class_of_t5_that_tags_has_the_encoder_alone(tmp_path, named):
    path, wide = "transformer.encoder.block.0.layer.0.SelfAttention.q", builders.HIDDEN
    lora = {f"base_model.model.{path}.lora_A.weight": (2, wide), f"base_model.model.{path}.lora_B.weight": (48, 2)}
    head = {"base_model.model.classifier.weight": (3, wide), "base_model.model.classifier.bias": (3,)}
    said = {"task_type": "TOKEN_CLS"}
    if named == "auto_mapping":
        said = {"task_type": None, "auto_mapping": {"base_model_class": "T5ForTokenClassification"}}
    held, targets = builders.profile("t5"), {"target_modules": r".*\.block\.0\.layer\.0\.SelfAttention\.q"}
    package = peft.read(peft_folder(tmp_path / "in", peft_config(**said, **targets), lora | head), held)
    assert (package.manifest.head.type, package.manifest.head.pooling) == ("tagging", "encoder_tokens")
    assert list(package.manifest.parts[0].config["sites"]) == ["0/attn_q"]  # the decoder's map is in no such model
    check(package, held)
    peft.write(package, tmp_path / "out")
    assert_same(package, peft.read(tmp_path / "out", held))
