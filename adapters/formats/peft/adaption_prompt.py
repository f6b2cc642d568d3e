"""PEFT's adaption prompts: `adaption_prompt` [1, tokens, hidden] and `adaption_gate` [1] of the attentions of the top layers.

`adapter_layers` counts them from the top as Python slices do, so that 0 names every layer. No head is saved beside them.
"""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from adapters.architectures.sites import Address
from adapters.errors import Misfit
from adapters.formats.peft.host import ROOT, Host
from adapters.formats.peft.tuner import Found, Saved, Written
from adapters.manifest import PartSpec
from adapters.methods.adaption_prompt import ADAPTION_PROMPT
from adapters.weights import Package

_PROMPT, _GATE = "adaption_prompt", "adaption_gate"


class AdaptionPrompts:
    """The tuner."""

    methods = (ADAPTION_PROMPT.name,)
    settings = frozenset(("adapter_len", "adapter_layers"))

    def refused(self, config: Mapping[str, Any]) -> list[str]:
        """See `Tuner.refused`."""
        said = {name: config.get(name) for name in ("adapter_len", "adapter_layers")}
        return [f"{name} must be an integer, not {value!r}" for name, value in said.items() if type(value) is not int]

    def read(self, saved: Saved, reasons: list[str]) -> Found:
        """See `Tuner.read`."""
        module, count = _module(saved.host), saved.config["adapter_layers"]
        if saved.config.get("target_modules") not in (None, module):
            reasons.append(f"target_modules must be {module!r}, not {saved.config['target_modules']!r}")
        if count > saved.host.layers:
            reasons.append(f"adapter_layers is {count}, but the backbone has {saved.host.layers} layers")
        layers = list(range(saved.host.layers))[-count:]
        rest = dict(saved.tensors)
        tensors: dict[str, Tensor] = {}
        for layer in layers:
            address, path = Address(layer, "attn_kv"), _path(saved.host, layer)
            prompt, gate = (rest.pop(f"{path}.{name}", None) for name in (_PROMPT, _GATE))
            if prompt is None or gate is None:
                reasons.append(f"the checkpoint lacks the prompt or the gate of {path.removeprefix(ROOT)}")
            elif prompt.dim() != 3 or prompt.shape[:2] != (1, saved.config["adapter_len"]):
                reasons.append(f"adapter_len is {saved.config['adapter_len']}, but {path} holds {list(prompt.shape)}")
            else:
                tensors |= {f"{address}/prompt": prompt[0], f"{address}/gate": gate}
        reasons += [f"{key} belongs to no layer that adapter_layers names" for key in rest if ".adaption_" in key]
        part = PartSpec(ADAPTION_PROMPT.name, {"length": saved.config["adapter_len"], "layers": layers})
        return Found((part,), tensors, {key.removeprefix(ROOT): tensor for key, tensor in rest.items()})

    def write(self, package: Package, host: Host) -> Written:
        """See `Tuner.write`; raises `Misfit` for layers that are not the top ones, which PEFT can not name."""
        said = package.manifest.parts[0].config
        layers = list(said["layers"])
        if layers != list(range(host.layers))[-len(layers) :]:
            raise Misfit([f"PEFT has adaption prompts in the top layers alone, and not in {layers} of {host.layers}"])
        stored: dict[str, Tensor] = {}
        for layer in layers:
            address, path = Address(layer, "attn_kv"), _path(host, layer)
            stored[f"{path}.{_GATE}"] = package.tensors[f"{address}/gate"]
            stored[f"{path}.{_PROMPT}"] = package.tensors[f"{address}/prompt"].unsqueeze(0)
        config = {
            "peft_type": "ADAPTION_PROMPT",
            "target_modules": _module(host),
            "adapter_len": said["length"],
            "adapter_layers": len(layers),
        }
        return Written(stored, config)


ADAPTION_PROMPTS = AdaptionPrompts()


def _module(host: Host) -> str:
    """What a configuration calls the module, which is put in the place of the attention."""
    return host.family.attention.rpartition(".")[2]


def _path(host: Host, layer: int) -> str:
    return f"{ROOT}{host.path(host.family.attention_path(Address(layer, 'attn_kv')))}"
