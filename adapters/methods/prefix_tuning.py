"""Prefix tuning: Li and Liang 2021 (arXiv:2101.00190): learned keys and values in front of each layer's own.

P = W2 act(W1 E + b1) + b2   (reparametrised)    or P itself (flat);  P [tokens, 2 * layers, width]: K, V per layer
K, V = g_K K, g_V V;  g = mean over the row of sigmoid(W_g x + b_g)    x: the attention's input   (gated: UniPELT,
Mao et al. 2022, arXiv:2110.07577); `shared`: one g for both

PEFT's prefix is a past: the positions of a row begin behind it. It is stored flat, whatever it was trained through.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from adapters.architectures.geometry import Geometry
from adapters.architectures.sites import Address
from adapters.kernels.ragged import enter, row_mean
from adapters.methods.base import Fitting, Operand, Shapes, at, prefixed
from adapters.methods.settings import Settings, activation
from adapters.weights import Folded, Insertion

SHARED = Address(None, "attn_kv")
DECODER, CROSS = Address(None, "decoder_kv"), Address(None, "cross_kv")
DEFAULTS: Mapping[str, Any] = {"non_linearity": "tanh", "gating": "none", "site": "attn_kv"}
MAX_LENGTH = 4096
_PAST = ("length", "segments")
GATES: Mapping[str, int] = {"none": 0, "shared": 1, "separate": 2}  # outputs of a layer's gate


@dataclass(frozen=True)
class Setup:
    """A configuration that was read; `narrow` is the width of the reparametrisation, None where the prefix is flat."""

    length: int
    layers: tuple[int, ...]
    narrow: int | None
    non_linearity: str
    gating: str
    site: str = "attn_kv"

    def shared(self, geometry: Geometry) -> Address:
        """Where what the layers share is stored; an encoder-decoder has a prefix for each of its three attentions."""
        return shared_address(self.site, self.layers, geometry.encoder_layers)


def shared_address(site: str, layers: Sequence[int], encoder_layers: int) -> Address:
    """Where a prefix is stored that these layers share, which are of one stack."""
    if site == "cross_kv":
        return CROSS
    return DECODER if encoder_layers and layers and layers[0] >= encoder_layers else SHARED


@dataclass(frozen=True)
class PrefixTuning:
    """The method; `past`: whether the prefix has positions."""

    name: str = "prefix_tuning"
    past: bool = False
    first_only: bool = False

    def shapes(self, config: Mapping[str, Any], fitting: Fitting) -> Shapes:
        """See `Method.shapes`. One prefix for all layers of a stack, in one place; a gate for each layer, at its own."""
        setup, h = self._read(config, fitting), fitting.geometry.hidden_size
        wide = 2 * len(setup.layers) * fitting.geometry.key_width
        names: Shapes = {"control_trans": (setup.length * wide,)}
        if setup.narrow is not None:
            names = {
                "wte.weight": (setup.length, h),
                "control_trans.0.weight": (setup.narrow, h),
                "control_trans.0.bias": (setup.narrow,),
                "control_trans.2.weight": (wide, setup.narrow),
                "control_trans.2.bias": (wide,),
            }
        found, outputs = prefixed(setup.shared(fitting.geometry), names), GATES[setup.gating]
        if outputs:
            for layer in setup.layers:
                gate: Shapes = {"gate.weight": (outputs, h), "gate.bias": (outputs,)}
                found |= prefixed(Address(layer, setup.site), gate)
        return found

    def initialise(self, config: Mapping[str, Any], fitting: Fitting, generator: torch.Generator) -> dict[str, Tensor]:
        """Embeddings N(0, 1) and linear maps uniform, as torch's; a flat prefix and weights of gates N(0, 0.02)."""
        fresh: dict[str, Tensor] = {}
        shapes = self.shapes(config, fitting)
        for name, shape in shapes.items():
            fan_in = shapes[name.removesuffix("bias") + "weight"][-1] if name.endswith("bias") else shape[-1]
            if name.endswith("wte.weight"):
                fresh[name] = torch.randn(shape, generator=generator)
            elif name.endswith(("/control_trans", "/gate.weight")):
                fresh[name] = torch.randn(shape, generator=generator) * 0.02
            else:
                fresh[name] = (torch.rand(shape, generator=generator) * 2 - 1) * fan_in**-0.5
        return fresh

    def fold(self, config: Mapping[str, Any], tensors: Mapping[str, Tensor], fitting: Fitting) -> dict[Address, Folded]:
        """The reparametrisation is run once; every layer gets its keys and values [2, tokens, width], and its gate."""
        setup = self._read(config, fitting)
        prefix = _prefix(setup, at(tensors, setup.shared(fitting.geometry)))
        pairs = prefix.view(setup.length, len(setup.layers), 2, fitting.geometry.key_width).permute(1, 2, 0, 3)
        if self.past and fitting.geometry.encoder_layers:
            # PEFT cuts its vectors, set down twice, into pairs for both attentions of a layer, of which the first is used.
            pairs = pairs[[2 * i % len(pairs) for i in range(len(pairs))]]
        folded: dict[Address, Folded] = {}
        for i, layer in enumerate(setup.layers):
            address = Address(layer, setup.site)
            gate = {name: t for name, t in at(tensors, address).items() if name.startswith("gate.")}
            folded[address] = Folded(self.name, setup.gating, {"keys_values": pairs[i], **dict(sorted(gate.items()))})
        return folded

    def insertion(self, config: Mapping[str, Any]) -> Insertion | None:
        """No tokens, as the prefix is seen by the attention only; a past shifts the row's positions."""
        if not self.past:
            return None
        settings = Settings(self.name, config, _PAST)
        found = Insertion(0, 0, shift=settings.count("length", at_most=MAX_LENGTH), segments=settings.flag("segments"))
        settings.done()
        return found

    def _read(self, config: Mapping[str, Any], fitting: Fitting) -> Setup:
        insertion = self.insertion(config)
        if insertion is None:
            return _read(config, fitting)
        return Setup(insertion.shift, _past_layers(fitting.geometry), None, "tanh", "none")

    def keys_values(self, operand: Operand, segment: int) -> Tensor:
        """See `ActsOnAttention`."""
        return operand.params["keys_values"].one(segment)

    def gates(self, x: Tensor, operand: Operand) -> Tensor | None:
        """See `ActsOnAttention`: the gate's first output is for the keys, its last for the values."""
        if operand.variant == "none":
            return None
        p, hidden = operand.params, x.shape[-1]
        tokens = enter(x, operand.runs, ((hidden, GATES[str(operand.variant)]),))
        gate = tokens.linear(p["gate.weight"], p["gate.bias"]).map(torch.sigmoid).leave()
        return row_mean(gate, operand.runs).expand(-1, 2)


PREFIX_TUNING = PrefixTuning()
PAST_PREFIX = PrefixTuning("past_prefix", past=True, first_only=True)


def reference(folded: Folded, q: Tensor, k: Tensor, v: Tensor, heads: int, x: Tensor | None = None) -> Tensor:
    """Attention of one row [tokens, hidden] with the prefix in front of its keys and values; x: what a gate reads."""
    t = folded.tensors
    more_k, more_v = t["keys_values"]
    if folded.variant != "none":
        assert x is not None
        gate = torch.sigmoid(functional.linear(x, t["gate.weight"], t["gate.bias"])).mean(0)
        more_k, more_v = more_k * gate[0], more_v * gate[-1]
    split = [t.view(t.shape[0], heads, -1).transpose(0, 1) for t in (q, torch.cat([more_k, k]), torch.cat([more_v, v]))]
    scores = split[0] @ split[1].transpose(1, 2) / split[0].shape[-1] ** 0.5
    return torch.matmul(scores.softmax(-1), split[2]).transpose(0, 1).reshape(q.shape)


def _prefix(setup: Setup, held: Mapping[str, Tensor]) -> Tensor:
    """P, from what is stored for all layers."""
    if setup.narrow is None:
        return held["control_trans"]
    hidden = functional.linear(held["wte.weight"], held["control_trans.0.weight"], held["control_trans.0.bias"])
    hidden = activation(setup.non_linearity)(hidden)
    return functional.linear(hidden, held["control_trans.2.weight"], held["control_trans.2.bias"])


def _past_layers(geometry: Geometry) -> tuple[int, ...]:
    """The layers that see a past: a decoder's own attention, in an encoder-decoder."""
    return tuple(geometry.crossing or range(geometry.layers))


def _read(config: Mapping[str, Any], fitting: Fitting) -> Setup:
    config = {**DEFAULTS, **config}
    settings = Settings("prefix_tuning", config, ("length", "flat", "layers", "bottleneck", *DEFAULTS))
    flat = settings.flag("flat")
    setup = Setup(
        length=settings.count("length", at_most=MAX_LENGTH),
        layers=settings.layers(fitting),
        narrow=None if flat else settings.count("bottleneck"),
        non_linearity=settings.activation("non_linearity"),
        gating=str(settings.choice("gating", tuple(GATES))),
        site=str(settings.choice("site", ("attn_kv", "cross_kv"))),
    )
    stacks = {layer in fitting.geometry.crossing for layer in setup.layers}
    if len(stacks) > 1:
        settings.wrong("one prefix is for the layers of an encoder, or for those of a decoder")
    if setup.site == "cross_kv" and stacks != {True}:
        settings.wrong("cross_kv is only in the decoder's layers of an encoder-decoder")
    settings.done()
    return setup
