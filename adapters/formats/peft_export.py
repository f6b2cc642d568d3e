"""A native package -> PEFT's keys and configuration."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from adapters.architectures.record import Architecture
from adapters.architectures.sites import Address
from adapters.errors import Misfit
from adapters.formats import static_heads
from adapters.manifest import Manifest
from adapters.weights import Package

WRITTEN_VERSION = "0.21.2"  # whose layout this is
_TASK_TYPES: Mapping[str, str] = {static_heads.SEQUENCE: "SEQ_CLS", static_heads.TOKEN: "TOKEN_CLS"}


def write_stored(package: Package, family: Architecture, root: str) -> dict[str, Tensor]:
    """Every tensor under PEFT's key; `root` stands before the module paths. Raises `Misfit`."""
    part = package.manifest.parts[0]
    if part.method not in ("lora", "ia3"):
        raise Misfit([f"PEFT's folders are written for LoRA and (IA)3, not for {part.method}"])
    stored: dict[str, Tensor] = {}
    for site, held in part.config["sites"].items():
        _refuse(held, site, family)
        path = root + family.linear_path(Address.parse(site))
        if part.method == "lora":
            stored[f"{path}.lora_A.weight"] = package.tensors[f"{site}/lora_A"]
            stored[f"{path}.lora_B.weight"] = package.tensors[f"{site}/lora_B"]
            if held.get("bias", False):
                stored[f"{path}.lora_B.bias"] = package.tensors[f"{site}/lora_bias"]
            if held.get("dora", "none") == "peft":
                stored[f"{path}.lora_magnitude_vector"] = package.tensors[f"{site}/magnitude"]
        else:
            # PEFT's vectors have no factor of their own.
            scale = package.tensors[f"{site}/scale"]
            scale = scale if held["scaling"] == 1 else scale * held["scaling"]
            stored[f"{path}.ia3_l"] = scale.unsqueeze(0 if held.get("at", "output") == "input" else 1)
    if package.manifest.head is not None:
        _, head = _head(package.manifest)
        names = static_heads.names(head)
        stored |= {f"base_model.model.{key}": package.tensors[native] for native, key in names.items()}
    return stored


def write_config(manifest: Manifest, family: Architecture, prefix: str) -> dict[str, Any]:
    """A configuration that PEFT reads as the same part: modules by their whole paths, no patterns to guess."""
    sites = manifest.parts[0].config["sites"]
    paths = {site: prefix + family.linear_path(Address.parse(site)) for site in sites}
    task, saved = None, None
    if manifest.head is not None:
        task, head = _head(manifest)
        saved = sorted({_module(stem) for stem in head.maps})
    common = {
        "base_model_name_or_path": manifest.provenance.source_id or None,
        "peft_version": WRITTEN_VERSION,
        "task_type": "FEATURE_EXTRACTION" if task is None else _TASK_TYPES[task],
        "target_modules": sorted(paths.values()),
        "modules_to_save": saved,
        "inference_mode": True,
    }
    if manifest.parts[0].method == "ia3":
        inputs = sorted(paths[site] for site, held in sites.items() if held.get("at", "output") == "input")
        return {**common, "peft_type": "IA3", "feedforward_modules": inputs}
    first = next(iter(sites.values()))
    rank, alpha = first["rank"], _alpha(first)
    if any(held.get("bias", False) != first.get("bias", False) for held in sites.values()):
        raise Misfit(["PEFT has a LoRA bias in all modules or in none"])
    if any(held.get("dora") != first.get("dora") for held in sites.values()):
        raise Misfit(["PEFT has DoRA in all modules or in none"])
    escaped = {site: path.replace(".", r"\.") for site, path in paths.items()}
    return {
        **common,
        "peft_type": "LORA",
        "r": rank,
        "lora_alpha": alpha,
        "rank_pattern": {escaped[s]: held["rank"] for s, held in sites.items() if held["rank"] != rank},
        "alpha_pattern": {escaped[s]: _alpha(held) for s, held in sites.items() if _alpha(held) != alpha},
        "lora_bias": bool(first.get("bias", False)),
        "bias": "none",
        "use_rslora": False,
        "use_dora": first.get("dora", "none") != "none",
        "lora_dropout": 0.0,
        "init_lora_weights": True,
    }


def _refuse(held: Mapping[str, Any], site: str, family: Architecture) -> None:
    """What PEFT has no keys for."""
    if held.get("gated"):
        raise Misfit(["PEFT has no gates"])
    if held.get("dora", "none") == "adapterhub":
        raise Misfit(["PEFT's DoRA is not AdapterHub's: it takes another norm, and leaves the bias out"])
    if family.fused(Address.parse(site)) is not None:
        raise Misfit([f"PEFT adapts the map that {site} is a part of as a whole"])


def _alpha(held: Mapping[str, Any]) -> float:
    return float(held["scaling"] * held["rank"])


def _head(manifest: Manifest) -> tuple[str, static_heads.StaticHead]:
    assert manifest.head is not None
    found = static_heads.like(manifest.head, manifest.requires.model_type)
    if found is None:
        raise Misfit(["PEFT saves heads of transformers' own classes, and this head is not like any of them"])
    return found


def _module(stem: str) -> str:
    """The module that PEFT saves whole for a linear map of the head."""
    return "pooler" if ".pooler." in stem else stem.split(".", maxsplit=1)[0]
