"""PEFT's LoRA: ranks and alphas by pattern, rsLoRA, a bias, DoRA."""

import math
from collections.abc import Container, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from adapters.architectures.sites import TABLES, Address
from adapters.errors import Misfit
from adapters.formats.peft import replication, tokens
from adapters.formats.peft.host import ROOT, Host
from adapters.formats.peft.linear import Adapted, adapted
from adapters.formats.peft.lora_variants import DIAGONAL, KASA, scaled, start_of
from adapters.formats.peft.modules import by_parameter, of_pattern
from adapters.formats.peft.tuner import Found, Saved, Written
from adapters.formats.peft.whole import modules
from adapters.manifest import PartSpec
from adapters.weights import Package

_PARAMETERS: Mapping[str, str] = {
    "lora_A.weight": "lora_A",
    "lora_B.weight": "lora_B",
    "lora_B.bias": "lora_bias",
    "lora_magnitude_vector": "magnitude",
    "base_layer.bias": "base_bias",
}
# Tables of vectors: maps of one-hot tokens. PEFT saves that of words whole beside its change at times.
_TABLE: Mapping[str, str] = {
    "lora_embedding_A": "lora_A",
    "lora_embedding_B": "lora_B",
    "lora_magnitude_vector": "magnitude",
    "base_layer.weight": "base_table",
}
INVOCATION = "alora_invocation_tokens"
_SETTINGS = frozenset(
    (
        "r",
        "lora_alpha",
        "rank_pattern",
        "alpha_pattern",
        "use_rslora",
        "use_dora",
        "lora_bias",
        "fan_in_fan_out",
        "lora_dropout",
        "init_lora_weights",
        "target_parameters",
        "eva_config",
        "corda_config",
        "loftq_config",
        "lora_ga_config",
        "megatron_core",
        "qalora_group_size",
        "ensure_weight_tying",
        "runtime_config",
        INVOCATION,
        "use_bdlora",
        "kasa_config",
        "monteclora_config",
        "velora_config",
        "bias",
        "trainable_token_indices",
        replication.SETTING,
    )
)
# Settings that change what the adapter computes, or what the base weights are, in ways that are not served.
_UNSERVED: Mapping[str, str] = {
    "use_qalora": "QALoRA",
    "arrow_config": "Arrow routing",
}
_FLAGS = ("use_rslora", "use_dora", "lora_bias")
_PLAIN_STARTS = (True, False, "gaussian", "orthogonal", "eva", "mica")
# Starts that PEFT takes out of the frozen map again at every load.
_PEFT_STARTS = ("pissa", "olora")
_PARTS_OF_THE_MAP = (*_PEFT_STARTS, KASA)


@dataclass(frozen=True)
class Lora:
    """The tuner."""

    methods: tuple[str, ...] = ("lora",)
    settings: frozenset[str] = _SETTINGS | frozenset(_UNSERVED)

    def refused(self, config: Mapping[str, Any]) -> list[str]:
        """See `Tuner.refused`."""
        reasons = [f"{what} is not served yet" for key, what in _UNSERVED.items() if config.get(key)]
        if config.get("init_lora_weights", True) not in (*_PLAIN_STARTS, *_PEFT_STARTS):
            how = "which can not be repeated: let PEFT save it converted to plain LoRA"
            reasons.append(f"init_lora_weights={config['init_lora_weights']!r} changes weights of the backbone, {how}")
        names = config.get("target_parameters")
        if names is not None and not (isinstance(names, list) and all(isinstance(name, str) for name in names)):
            reasons.append(f"target_parameters must be a list of names, not {names!r}")
        wrong = [key for key in _FLAGS if config.get(key) is not None and not isinstance(config[key], bool)]
        return reasons + [f"{key} must be true or false, not {config[key]!r}" for key in wrong]

    def read(self, saved: Saved, reasons: list[str]) -> Found:
        """See `Tuner.read`."""
        host, trained = saved.host, dict(scaled(saved).tensors)
        rows = trained.pop(f"{ROOT}{host.words}.{tokens.BESIDE}", None)
        tables, parameters = host.looked_up(), {**_PARAMETERS, **_TABLE}
        if host.words not in tables:  # a module that nothing reads
            trained = {k: t for k, t in trained.items() if not k.startswith(f"{ROOT}{host.words}.lora_")}
        found = adapted(replace(saved, tensors=trained), parameters, "lora_", reasons, tables)
        sites = {address: _site(saved.config, path, found, reasons) for path, address in found.paths.items()}
        reasons += _of_parameters(saved)
        part = PartSpec("lora", {"sites": sites} | _invocation(saved.config, reasons))
        beside = tokens.beside(saved.config, rows, host, reasons)
        return Found((part, *beside.parts), {**found.tensors, **beside.tensors}, found.rest)

    def write(self, package: Package, host: Host) -> Written:
        """See `Tuner.write`: modules by their whole paths, no patterns to guess."""
        stored: dict[str, Tensor] = {}
        sites: dict[str, Mapping[str, Any]] = {}
        for held in package.manifest.parts[0].config["sites"].values():
            _refuse(held)
        for module in modules(package.manifest.parts[0].config["sites"], package.tensors, host):
            sites[module.path] = module.settings
            names = _TABLE if module.path in host.looked_up() else _PARAMETERS
            own = {name: module.tensors.get(native) for name, native in names.items()}
            stored |= {f"{ROOT}{module.path}.{name}": tensor for name, tensor in own.items() if tensor is not None}
            if module.settings.get("start") == KASA:
                stored[f"{ROOT}{module.path}.{DIAGONAL}"] = torch.ones(module.settings["rank"])
        invoked = package.manifest.parts[0].config.get("invocation")
        more = {} if invoked is None else {INVOCATION: list(invoked)}
        return Written(stored, _config(sites, host.looked_up()) | more)


LORA = Lora()


def _of_parameters(saved: Saved) -> list[str]:
    """What stands against LoRA on bare parameters: here they are weights of maps, whose LoRA it then is."""
    names, host = saved.config.get("target_parameters") or (), saved.host
    if names and host.family.turned:
        return [
            f"target_parameters: the maps of {host.family.model_type} hold their weights turned, which is not served"
        ]
    served = [path for path in host.modules() if by_parameter(saved.config, path)]
    unknown = [name for name in names if not any(by_parameter({"target_parameters": [name]}, path) for path in served)]
    return [f"target_parameters names {name}, which is the weight of no map that is served" for name in unknown]


def _site(config: Mapping[str, Any], path: str, found: Adapted, reasons: list[str]) -> dict[str, Any]:
    address = found.paths[path]
    down, up = found.tensors.get(f"{address}/lora_A"), found.tensors.get(f"{address}/lora_B")
    if down is None or up is None or down.dim() != 2:
        reasons.append(f"{path} has only one of lora_A and lora_B")
        return {}
    bias = f"{address}/lora_bias" in found.tensors
    if bias != bool(config.get("lora_bias")):
        reasons.append(f"{path}: lora_bias is {config.get('lora_bias')}, but the checkpoint says otherwise")
    dora = f"{address}/magnitude" in found.tensors
    if dora != bool(config.get("use_dora")):
        reasons.append(f"{path}: use_dora is {config.get('use_dora')}, but the checkpoint says otherwise")
    rank = int(down.shape[0])
    named = f"{path}.weight" if by_parameter(config, path) else path
    declared = of_pattern(config.get("rank_pattern"), named, config.get("r"))
    alpha = of_pattern(config.get("alpha_pattern"), named, config.get("lora_alpha"))
    if declared != rank:
        reasons.append(f"{path} has the rank {rank}, but adapter_config.json says {declared}")
    if not isinstance(alpha, int | float) or isinstance(alpha, bool):
        reasons.append(f"lora_alpha must be a number, not {alpha!r}")
        return {}
    scaling = alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)
    site: dict[str, Any] = {"rank": rank, "scaling": scaling} | ({"dora": "peft"} if dora else {})
    start = start_of(config)
    if Address.parse(address).site in TABLES:
        if start in _PARTS_OF_THE_MAP:
            reasons.append(f"{path}: init_lora_weights={start!r} of a table of vectors is not served")
        return site | ({"base_table": True} if f"{address}/base_table" in found.tensors else {})
    replaced = f"{address}/base_bias" in found.tensors
    if replaced and config.get("bias", "none") == "none":
        reasons.append(f"{path}: bias is 'none', but the checkpoint holds a bias of the backbone")
    site |= {"start": start} if start in _PARTS_OF_THE_MAP else {}
    return site | {"bias": bias} | ({"base_bias": True} if replaced else {})


def _config(sites: Mapping[str, Any], tables: Container[str]) -> dict[str, Any]:
    """`sites`: settings by the path of a module, which may be one of the tables."""
    first = next(iter(sites.values()))
    rank, alpha = first["rank"], _alpha(first)
    maps = [held for path, held in sites.items() if path not in tables]
    if len({held.get("bias", False) for held in maps}) > 1:
        raise Misfit(["PEFT has a LoRA bias in all modules or in none"])
    if any(held.get("dora") != first.get("dora") for held in sites.values()):
        raise Misfit(["PEFT has DoRA in all modules or in none"])
    if len({held.get("start") for held in maps}) > 1:
        raise Misfit(["PEFT starts all modules alike"])
    escaped = {path: path.replace(".", r"\.") for path in sites}
    return {
        "peft_type": "LORA",
        "target_modules": sorted(sites),
        "r": rank,
        "lora_alpha": alpha,
        "rank_pattern": {escaped[s]: held["rank"] for s, held in sites.items() if held["rank"] != rank},
        "alpha_pattern": {escaped[s]: _alpha(held) for s, held in sites.items() if _alpha(held) != alpha},
        "lora_bias": any(held.get("bias", False) for held in maps),
        "bias": "lora_only" if any(held.get("base_bias", False) for held in maps) else "none",
        "use_rslora": False,
        "use_dora": first.get("dora", "none") != "none",
        "lora_dropout": 0.0,
        **_start(next((held["start"] for held in maps if "start" in held), True)),
    }


def _start(start: Any) -> dict[str, Any]:
    losses = {"beta": 0.0, "gamma": 0.0}  # of its training
    return {"kasa_config": losses, "init_lora_weights": True} if start == KASA else {"init_lora_weights": start}


def _invocation(config: Mapping[str, Any], reasons: list[str]) -> dict[str, Any]:
    """The member of a part that waits for a call."""
    said = config.get(INVOCATION)
    if said is None:
        return {}
    if not isinstance(said, list) or not all(type(token) is int for token in said):
        reasons.append(f"{INVOCATION} must be a list of token ids, not {said!r}")
    return {"invocation": said}


def _refuse(held: Mapping[str, Any]) -> None:
    """What PEFT has no keys for."""
    if held.get("gated"):
        raise Misfit(["PEFT has no gates"])
    if held.get("dora", "none") == "adapterhub":
        raise Misfit(["PEFT's DoRA is not AdapterHub's: it takes another norm, and leaves the bias out"])


def _alpha(held: Mapping[str, Any]) -> float:
    return float(held["scaling"] * held["rank"])
