"""Layers built as BERT's are, in as few calls as they need: one map for queries, keys and values, nothing in between.

A layer of the family has its own forward replaced for passes without gradients; training keeps the model's own, whose
modules the hooks of `inject` hang on.
"""

from collections.abc import Mapping
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from adapters.architectures.geometry import Geometry
from adapters.architectures.record import Architecture
from adapters.architectures.sites import Address
from adapters.batch.junctions import run_junction
from adapters.batch.linears import run_linear
from adapters.batch.norms import run_norm
from adapters.batch.plan import BatchPlan
from adapters.kernels.cpu import ACTIVATIONS
from adapters.kernels.dense import FrozenMap, activated
from adapters.kernels.interface import Kernels
from adapters.kernels.norms import FrozenNorm
from adapters.methods.base import Meeting

OWN_NORMS = {"attn_junction": "attn_norm", "ffn_junction": "ffn_norm"}  # the site of the norm behind a junction
INPUTS = ("attn_q", "attn_k", "attn_v")


class Surroundings(Protocol):
    """What a layer needs of the running pass."""

    @property
    def plan(self) -> BatchPlan:
        """The plan of the running pass."""
        ...

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, scaling: float, x: Tensor) -> Tensor:
        """Packed attention; q, k, v [tokens, heads, width], x [tokens, hidden] what they were made of."""
        ...


class PostNormLayer:
    """One layer: norm(f + r) behind the attention and behind the feed-forward."""

    def __init__(self, family: Architecture, layer: int, geometry: Geometry, modules: Mapping[str, nn.Module]) -> None:
        self._layer = layer
        self._shape = (geometry.heads, geometry.head_width)
        self._activation = geometry.activation
        self._at = {site: Address(layer, site) for site in (*family.linear, *family.junctions, *OWN_NORMS.values())}
        self._swapped = {site for site, junction in family.junctions.items() if junction.swapped}
        linears = {site: modules[family.linear_path(self._at[site])] for site in family.linear}
        self._inputs = _side_by_side([linears[site] for site in INPUTS])
        self._maps = {site: FrozenMap(m.weight, m.bias) for site, m in linears.items() if site not in INPUTS}  # type: ignore[arg-type]
        self._weights: Mapping[str, Tensor] = {site: m.weight for site, m in linears.items()}  # type: ignore[misc]
        self._norms = {
            site: norm_of(modules[path])
            for site in family.junctions
            if (path := family.norm_path(self._at[site], geometry.layers)) is not None
        }

    def run(self, x: Tensor, surroundings: Surroundings) -> Tensor:
        """The layer's output [tokens, hidden] from its input."""
        plan = surroundings.plan
        parts = self._inputs(x).chunk(len(INPUTS), dim=1)
        for site, part in zip(INPUTS, parts, strict=True):
            self._adapt(plan, site, x, part)
        q, k, v = (part.view(-1, *self._shape) for part in parts)
        context = surroundings.attend(self._layer, q, k, v, self._shape[1] ** -0.5, x)
        f = self._linear(plan, "attn_out", context)
        middle = self._junction(plan, "attn_junction", f, x)
        f = self._linear(plan, "ffn_out", self._linear(plan, "ffn_in", middle, self._activation))
        return self._junction(plan, "ffn_junction", f, middle)

    def _linear(self, plan: BatchPlan, site: str, x: Tensor, activation: str = "none") -> Tensor:
        if self._at[site] not in plan.steps:
            return self._maps[site](x, activation)
        y = self._maps[site](x)
        self._adapt(plan, site, x, y)
        return _activated(y, activation, plan.kernels)

    def _adapt(self, plan: BatchPlan, site: str, x: Tensor, y: Tensor) -> None:
        """Write into y = W x + b, which may be some columns of a wider tensor, what adapters make of it."""
        program = plan.steps.get(self._at[site])
        if program:
            own = run_linear(program, x, y, self._weights[site])
            if own is not y:
                y.copy_(own)

    def _junction(self, plan: BatchPlan, site: str, f: Tensor, r: Tensor) -> Tensor:
        y = self._meet(plan, site, f, r)
        if plan.renormed and (own := plan.steps.get(self._at[OWN_NORMS[site]])):
            y = run_norm(own, f + r, y, self._norms[site])
        return y

    def _meet(self, plan: BatchPlan, site: str, f: Tensor, r: Tensor) -> Tensor:
        norm, program = self._norms[site], plan.steps.get(self._at[site])
        if not program:
            return norm.of_sum(f, r, plan.kernels)
        left = sum(item.runs.count for item in program if item.leaves)
        normed = None if left == len(f) else norm.of_sum(f, r, plan.kernels)  # no row's own norm is asked for
        if site in self._swapped:
            f, r = r, f
        return run_junction(
            program, Meeting(f, r, norm, normed, adds=True), f.new_empty(f.shape) if normed is None else normed
        )


def install(
    family: Architecture, geometry: Geometry, modules: Mapping[str, nn.Module], surroundings: Surroundings
) -> None:
    """Replace the forward of every layer for passes without gradients."""
    for layer in range(geometry.layers):
        module = modules[family.layer_path(layer)]
        module.forward = _either(module.forward, PostNormLayer(family, layer, geometry, modules), surroundings)


def norm_of(module: nn.Module) -> FrozenNorm:
    """The frozen norm of a module, past its hooks; transformers has a class for each family's norm by mean squares."""
    if isinstance(module, nn.LayerNorm):
        return FrozenNorm(module.weight, module.bias, module.eps)
    return FrozenNorm(module.weight, None, module.variance_epsilon, rms=True)  # type: ignore[arg-type]


def _activated(y: Tensor, activation: str, kernels: Kernels | None) -> Tensor:
    """An activation, in the place of y where a kernel has it; in float32 torch's own is a digit more exact."""
    if (
        kernels is None
        or y.dtype is not torch.bfloat16
        or y.dtype not in kernels.dtypes
        or activation not in ACTIVATIONS
    ):
        return activated(y, activation)
    kernels.activate(y, activation)
    return y


def _either(own: Any, layer: PostNormLayer, surroundings: Surroundings) -> Any:
    def forward(hidden_states: Tensor, *args: Any, **kwargs: Any) -> Any:
        if torch.is_grad_enabled():
            return own(hidden_states, *args, **kwargs)
        flat = hidden_states.reshape(-1, hidden_states.shape[-1])
        return layer.run(flat, surroundings).view(hidden_states.shape)

    return forward


def _side_by_side(linears: list[nn.Module]) -> FrozenMap:
    """One map that computes several; theirs become parts of it, so that no weight is held twice."""
    weights, biases = ([getattr(linear, name).detach() for linear in linears] for name in ("weight", "bias"))
    whole = FrozenMap(torch.cat(weights), torch.cat(biases))
    assert whole.bias is not None
    for name, tensor in (("weight", whole.weight), ("bias", whole.bias)):
        for linear, part in zip(linears, tensor.chunk(len(linears)), strict=True):
            setattr(linear, name, nn.Parameter(part, requires_grad=False))
    return whole
