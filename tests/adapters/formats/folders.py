"""Tiny checkpoint folders, written key by key in the layouts of AdapterHub and PEFT (not by the code under test)."""

import json
from pathlib import Path

import torch
from safetensors.torch import save_file

from adapters.architectures.geometry import Geometry
from adapters.architectures.profile import BackboneProfile

H, WIDE, LAYERS = 8, 16, 2
Shapes = dict[str, tuple[int, ...]]


def profile(model_type="bert", *, has_pooler=True, hidden=H, layers=LAYERS):
    geometry = Geometry(model_type, hidden, hidden, WIDE, layers, 2, 20, 32, 2, 0)
    return BackboneProfile("tiny", "sha256:" + "0" * 64, geometry, has_pooler)


def tensors(shapes: Shapes, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {key: torch.randn(shape, generator=generator) for key, shape in shapes.items()}


def write(folder: Path, weights: str, config_name: str | None, config: object, held: dict[str, torch.Tensor]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    if config_name is not None:
        (folder / config_name).write_text(json.dumps(config))
    save_file(held, folder / weights)
    return folder


def seq_bn(**changes):
    config = {
        "mh_adapter": False,
        "output_adapter": True,
        "reduction_factor": 2,
        "non_linearity": "relu",
        "original_ln_before": True,
        "original_ln_after": True,
        "ln_before": False,
        "ln_after": False,
        "residual_before_ln": True,
        "adapter_residual_before_ln": False,
        "is_parallel": False,
        "scaling": 1.0,
        "use_gating": False,
        "phm_layer": False,
        "inv_adapter": None,
        "inv_adapter_reduction_factor": None,
        "leave_out": [],
    }
    return config | changes


def lora(**changes):
    config = {
        "architecture": "lora",
        "selfattn_lora": True,
        "intermediate_lora": False,
        "output_lora": False,
        "attn_matrices": ["q", "v"],
        "r": 2,
        "alpha": 8,
        "composition_mode": "add",
        "use_gating": False,
        "use_dora": False,
        "vera_d": None,
        "vera_b": None,
        "leave_out": [],
    }
    return config | changes


def prefix(**changes):
    config = {
        "architecture": "prefix_tuning",
        "flat": False,
        "prefix_length": 3,
        "bottleneck_size": 5,
        "non_linearity": "tanh",
        "use_gating": False,
        "leave_out": [],
    }
    return config | changes


def saved(config, model_type="bert", **changes):
    """An adapter_config.json or head_config.json around a configuration."""
    envelope = {
        "config": config,
        "hidden_size": H,
        "model_class": "BertAdapterModel",
        "model_name": "tiny",
        "model_type": model_type,
        "name": "a",
        "version": "adapters.1.3.0",
    }
    return envelope | changes


def bottleneck_keys(stem, width=4) -> Shapes:
    return {
        f"{stem}.adapter_down.0.weight": (width, H),
        f"{stem}.adapter_down.0.bias": (width,),
        f"{stem}.adapter_up.weight": (H, width),
        f"{stem}.adapter_up.bias": (H,),
    }


def seq_bn_keys(prefix="bert.", name="a", layers=range(LAYERS), width=4) -> Shapes:
    keys: Shapes = {}
    for i in layers:
        keys |= bottleneck_keys(f"{prefix}encoder.layer.{i}.output.adapters.{name}", width)
    return keys


def head_keys(name="a", labels=3) -> Shapes:
    return {
        f"heads.{name}.1.weight": (H, H),
        f"heads.{name}.1.bias": (H,),
        f"heads.{name}.4.weight": (labels, H),
        f"heads.{name}.4.bias": (labels,),
    }


def head_config(**changes):
    config = {
        "head_type": "classification",
        "num_labels": 3,
        "layers": 2,
        "activation_function": "tanh",
        "bias": True,
        "use_pooler": False,
        "label2id": {"neg": 0, "pos": 2, "neu": 1},
    }
    return config | changes


def adapterhub_folder(folder, config, keys: Shapes, *, head=None, head_shapes: Shapes | None = None, **changes):
    write(folder, "adapter.safetensors", "adapter_config.json", saved(config, **changes), tensors(keys))
    if head is not None:
        held = tensors(head_keys() if head_shapes is None else head_shapes, seed=1)
        write(folder, "model_head.safetensors", "head_config.json", saved(head, **changes), held)
    return folder


def seq_bn_folder(folder, **changes):
    return adapterhub_folder(folder, seq_bn(), seq_bn_keys(), head=head_config(), **changes)


def peft_config(**changes):
    config = {
        "peft_type": "LORA",
        "peft_version": "0.21.2",
        "task_type": "SEQ_CLS",
        "base_model_name_or_path": "tiny",
        "target_modules": ["query", "value"],
        "modules_to_save": ["classifier", "score"],
        "r": 2,
        "lora_alpha": 16,
        "rank_pattern": {},
        "alpha_pattern": {},
        "use_rslora": False,
        "use_dora": False,
        "bias": "none",
        "lora_bias": False,
    }
    return config | changes


def peft_lora_keys(paths, rank=2, root="base_model.model.", wide=H, out=H) -> Shapes:
    keys: Shapes = {}
    for path in paths:
        keys[f"{root}{path}.lora_A.weight"] = (rank, wide)
        keys[f"{root}{path}.lora_B.weight"] = (out, rank)
    return keys


def attention(*names, prefix="bert.", layers=range(LAYERS)):
    return [f"{prefix}encoder.layer.{i}.attention.self.{name}" for i in layers for name in names]


CLASSIFIER: Shapes = {"base_model.model.classifier.weight": (3, H), "base_model.model.classifier.bias": (3,)}


def peft_folder(folder, config, keys: Shapes):
    return write(folder, "adapter_model.safetensors", "adapter_config.json", config, tensors(keys))


def tokenizer_json(words=("[UNK]", "a", "b"), **changes):
    value = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [],
        "normalizer": {"type": "Lowercase"},
        "pre_tokenizer": {"type": "Whitespace"},
        "post_processor": None,
        "decoder": None,
        "model": {"type": "WordLevel", "vocab": {word: i for i, word in enumerate(words)}, "unk_token": "[UNK]"},
    }
    return json.dumps(value | changes).encode()
