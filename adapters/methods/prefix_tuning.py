"""Prefix tuning: Li and Liang 2021 (arXiv:2101.00190): learned keys and values in front of each layer's own.

P = W2 tanh(W1 E + b1) + b2   (reparametrised)      or P itself (flat);   P [tokens, 2 * layers, hidden]: K, V per layer
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from adapters.architectures.sites import Address
from adapters.methods.base import Fitting, Operand, Shapes, prefixed
from adapters.methods.settings import Settings
from adapters.weights import Folded, Insertion

SHARED = Address(None, "attn_kv")


@dataclass(frozen=True)
class PrefixTuning:
    """The method."""

    name: str = "prefix_tuning"
    first_only: bool = False

    def shapes(self, config: Mapping[str, Any], fitting: Fitting) -> Shapes:
        """See `Method.shapes`. One set for all layers, at `model/attn_kv`."""
        length, layers, narrow = _read(config, fitting)
        h = fitting.geometry.hidden_size
        wide = 2 * len(layers) * h
        if narrow is None:
            return prefixed(SHARED, {"control_trans": (length * wide,)})
        names: Shapes = {
            "wte.weight": (length, h),
            "control_trans.0.weight": (narrow, h),
            "control_trans.0.bias": (narrow,),
            "control_trans.2.weight": (wide, narrow),
            "control_trans.2.bias": (wide,),
        }
        return prefixed(SHARED, names)

    def initialise(self, config: Mapping[str, Any], fitting: Fitting, generator: torch.Generator) -> dict[str, Tensor]:
        """Embeddings N(0, 1) as torch's, linear maps uniform as torch's, a flat prefix N(0, 0.02)."""
        fresh: dict[str, Tensor] = {}
        shapes = self.shapes(config, fitting)
        for name, shape in shapes.items():
            fan_in = shapes[name.removesuffix("bias") + "weight"][-1] if name.endswith("bias") else shape[-1]
            if name.endswith("wte.weight"):
                fresh[name] = torch.randn(shape, generator=generator)
            elif name.endswith("/control_trans"):
                fresh[name] = torch.randn(shape, generator=generator) * 0.02
            else:
                fresh[name] = (torch.rand(shape, generator=generator) * 2 - 1) * fan_in**-0.5
        return fresh

    def fold(self, config: Mapping[str, Any], tensors: Mapping[str, Tensor], fitting: Fitting) -> dict[Address, Folded]:
        """The reparametrisation is run once; every layer gets its keys and values [2, tokens, hidden]."""
        length, layers, narrow = _read(config, fitting)
        held = {name.removeprefix(f"{SHARED}/"): tensor for name, tensor in tensors.items()}
        if narrow is None:
            prefix = held["control_trans"]
        else:
            hidden = torch.tanh(
                functional.linear(held["wte.weight"], held["control_trans.0.weight"], held["control_trans.0.bias"])
            )
            prefix = functional.linear(hidden, held["control_trans.2.weight"], held["control_trans.2.bias"])
        pairs = prefix.view(length, len(layers), 2, fitting.geometry.hidden_size).permute(1, 2, 0, 3)
        return {
            Address(layer, "attn_kv"): Folded(self.name, None, {"keys_values": pairs[i]})
            for i, layer in enumerate(layers)
        }

    def insertion(self, config: Mapping[str, Any]) -> Insertion | None:
        """None: the prefix is seen by the attention only."""
        return None

    def keys_values(self, operand: Operand, segment: int) -> Tensor:
        """See `ActsOnAttention`."""
        return operand.params["keys_values"].one(segment)


PREFIX_TUNING = PrefixTuning()


def reference(folded: Folded, q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
    """Attention of one row [tokens, hidden] that sees the prefix in front of its own keys and values."""
    more_k, more_v = folded.tensors["keys_values"]
    split = [t.view(t.shape[0], heads, -1).transpose(0, 1) for t in (q, torch.cat([more_k, k]), torch.cat([more_v, v]))]
    scores = split[0] @ split[1].transpose(1, 2) / split[0].shape[-1] ** 0.5
    return torch.matmul(scores.softmax(-1), split[2]).transpose(0, 1).reshape(q.shape)


def _read(config: Mapping[str, Any], fitting: Fitting) -> tuple[int, tuple[int, ...], int | None]:
    settings = Settings("prefix_tuning", config, ("length", "flat", "layers", "bottleneck"))
    length = settings.count("length", at_most=4096)
    flat = settings.flag("flat")
    narrow = None if flat else settings.count("bottleneck")
    layers = config.get("layers")
    present = range(fitting.geometry.layers)
    if not isinstance(layers, list | tuple) or not layers:
        settings.wrong("matches no layer of the backbone: 'layers' is empty")
    elif any(type(layer) is not int for layer in layers):
        settings.wrong(f"layers must be numbers, not {list(layers)!r}")
    elif sorted(set(layers)) != list(layers) or any(layer not in present for layer in layers):
        settings.wrong(f"layers must be ascending numbers below {fitting.geometry.layers}, not {list(layers)!r}")
    settings.done()
    assert isinstance(layers, list | tuple)
    return length, tuple(layers), narrow
