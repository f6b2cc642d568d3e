import pytest
import torch

from adapters.architectures.families import ARCHITECTURES
from adapters.formats.peft.host import Host
from adapters.formats.peft.named import named
from adapters.formats.peft.tuner import Saved

HEAD = {"base_model.model.classifier.weight": torch.ones(2, 8)}


def found(family, keys=(), **config):
    """(maps that are named, whether the model has a head, reasons)."""
    saved = Saved(config, {key: torch.ones(1) for key in keys}, Host(ARCHITECTURES[family], 2, prefixed=False))
    reasons = []
    adapted, host = named(saved, "unilora_", reasons)
    return list(adapted.paths), host.prefixed, reasons


@pytest.mark.parametrize(
    ("task", "keys", "prefixed"),
    [
        ("FEATURE_EXTRACTION", (), False),
        ("CAUSAL_LM", (), True),
        ("SEQ_CLS", HEAD, True),
        (None, HEAD, True),
        (None, (), False),
    ],
)
def test_the_task_or_the_head_tells_which_model_it_was(task, keys, prefixed):
    paths, has_head, reasons = found("llama", keys, task_type=task, target_modules=["q_proj"], layers_to_transform=[1])
    assert has_head == prefixed
    # PEFT finds the number of a layer behind two names alone.
    assert paths == (["model.layers.1.self_attn.q_proj"] if prefixed else [])
    assert bool(reasons) != prefixed


@pytest.mark.parametrize(
    ("family", "task", "pooled"),
    [
        ("bert", "FEATURE_EXTRACTION", True),
        ("bert", "SEQ_CLS", True),
        ("bert", "TOKEN_CLS", False),
        ("roberta", "SEQ_CLS", False),
    ],
)
def test_the_pooler_is_there_where_the_class_has_one(family, task, pooled):
    paths, _, reasons = found(family, task_type=task, target_modules=["dense"])
    assert any("pooler" in path for path in paths) == pooled
    assert not reasons


@pytest.mark.parametrize(
    ("family", "targets", "path"),
    [("deberta-v2", ["dense"], "pooler.dense"), ("distilbert", "all-linear", "pre_classifier")],
)
def test_maps_of_heads_that_are_adapted_are_refused(family, targets, path):
    _, _, reasons = found(family, task_type="SEQ_CLS", target_modules=targets)
    assert reasons == [f"{path} of the head is adapted, which is not served"]
    assert not found(family, task_type="FEATURE_EXTRACTION", target_modules=targets)[2]


def test_tensors_of_single_maps_are_refused_and_those_of_heads_are_left():
    key = "base_model.model.encoder.layer.0.attention.self.query.unilora_indices_A"
    _, _, reasons = found("bert", [key, "unknown.weight"], task_type="SEQ_CLS", target_modules=["query"])
    assert len(reasons) == 2
    saved = Saved({"task_type": "SEQ_CLS", "target_modules": ["query"]}, HEAD, Host(ARCHITECTURES["bert"], 2, False))
    assert set(named(saved, "unilora_", [])[0].rest) == {"classifier.weight"}
