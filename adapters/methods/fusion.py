"""AdapterFusion: Pfeiffer et al. 2021 (arXiv:2005.00247): attention over what several adapters contribute.

    scores_i = (W_q q + b_q) . (W_k u_i + b_k);  p = softmax(scores);  out = sum_i p_i (W_v u_i) + residual

u_i are the contributions of the adapters at this place, q is the input that they share. Each of the three maps may be
absent (the static variant has no W_v).
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from adapters.architectures.sites import Address
from adapters.kernels.ragged import enter
from adapters.kernels.runs import Runs
from adapters.methods.base import Fitting, Operand, Shapes, at, prefixed
from adapters.methods.settings import Settings
from adapters.weights import Folded, Insertion

SITES = ("attn_junction", "cross_junction", "ffn_junction")


@dataclass(frozen=True)
class Variant:
    """What changes the code path; names as in AdapterHub's AdapterFusionConfig."""

    query: bool
    key: bool
    value: bool
    query_before_ln: bool
    residual_before: bool
    value_before_softmax: bool


@dataclass(frozen=True)
class Fusion:
    """The method: a package of its own, named by the `Fuse` block that uses it."""

    name: str = "fusion"
    first_only: bool = False

    def shapes(self, config: Mapping[str, Any], fitting: Fitting) -> Shapes:
        """See `Method.shapes`. Per site, as the variant says: query, key [h, h] with biases [h], value [h, h]."""
        variant, addresses = _read(config, fitting)
        h = fitting.geometry.hidden_size
        names: Shapes = {}
        for part in ("query", "key"):
            if getattr(variant, part):
                names |= {f"{part}.weight": (h, h), f"{part}.bias": (h,)}
        if variant.value:
            names["value.weight"] = (h, h)
        found: Shapes = {}
        for address in addresses:
            found |= prefixed(address, names)
        return found

    def initialise(self, config: Mapping[str, Any], fitting: Fitting, generator: torch.Generator) -> dict[str, Tensor]:
        """BERT's initialisation for query and key; the value starts as the identity (plus 1e-6 everywhere)."""
        fresh: dict[str, Tensor] = {}
        for name, shape in self.shapes(config, fitting).items():
            if name.endswith("value.weight"):
                fresh[name] = torch.full(shape, 1e-6).fill_diagonal_(1.0)
            elif name.endswith("bias"):
                fresh[name] = torch.zeros(shape)
            else:
                fresh[name] = torch.randn(shape, generator=generator) * 0.02
        return fresh

    def fold(self, config: Mapping[str, Any], tensors: Mapping[str, Tensor], fitting: Fitting) -> dict[Address, Folded]:
        """The parameters of each site as they are."""
        variant, addresses = _read(config, fitting)
        return {address: Folded(self.name, variant, at(tensors, address)) for address in addresses}

    def insertion(self, config: Mapping[str, Any]) -> Insertion | None:
        """None: rows keep their tokens."""
        return None


FUSION = Fusion()


def before_norm(operand: Operand) -> bool:
    """Whether a fusion asks with the state before the norm."""
    assert isinstance(operand.variant, Variant)
    return operand.variant.query_before_ln


def attend(query: Tensor, contributions: Tensor, residual: Tensor, operand: Operand) -> Tensor:
    """The fused state [n, h] from the query [n, h], the adapters' contributions [n, arms, h] and the residual [n, h]."""
    variant, params, runs = operand.variant, operand.params, operand.runs
    assert isinstance(variant, Variant)
    h = query.shape[-1]
    if variant.residual_before:
        contributions = contributions + residual[:, None, :]
    asked = _map(query, "query", operand, runs) if variant.query else query
    arms = contributions.shape[1]
    each = _repeated(runs, arms)
    flat = contributions.reshape(-1, h)
    keys = _map(flat, "key", operand, each).view(-1, arms, h) if variant.key else contributions
    values = contributions
    if variant.value and variant.value_before_softmax:
        values = enter(flat, each, ((h, h),)).linear(params["value.weight"], None).leave().view(-1, arms, h)
    shares = torch.einsum("nh,nah->na", asked, keys).softmax(dim=-1)
    context = torch.einsum("na,nah->nh", shares, values)
    if variant.value and not variant.value_before_softmax:
        context = enter(context, runs, ((h, h),)).linear(params["value.weight"], None).leave()
    return context if variant.residual_before else context + residual


def reference(folded: Folded, query: Tensor, contributions: Tensor, residual: Tensor) -> Tensor:
    """One row under one fusion: query and residual [tokens, h], contributions [tokens, arms, h]."""
    v, t = folded.variant, folded.tensors
    assert isinstance(v, Variant)
    u = contributions + residual[:, None] if v.residual_before else contributions
    q = query @ t["query.weight"].T + t["query.bias"] if v.query else query
    k = u @ t["key.weight"].T + t["key.bias"] if v.key else u
    p = (q[:, None] * k).sum(-1).softmax(-1)
    out = (p[:, :, None] * (u @ t["value.weight"].T if v.value else u)).sum(1)
    return out if v.residual_before else out + residual


def _map(x: Tensor, part: str, operand: Operand, runs: Runs) -> Tensor:
    h = x.shape[-1]
    tokens = enter(x, runs, ((h, h),))
    return tokens.linear(operand.params[f"{part}.weight"], operand.params[f"{part}.bias"]).leave()


def _repeated(runs: Runs, times: int) -> Runs:
    """The runs of a workspace in which every token stands `times` times, side by side."""
    bounds, start = [], 0
    for length in runs.lengths:
        bounds.append((start, start + length * times))
        start += length * times
    rows = tuple((first * times, last * times) for first, last in runs.rows)
    return Runs(tuple(bounds), rows, start, runs.device, runs.kernels)


def _read(config: Mapping[str, Any], fitting: Fitting) -> tuple[Variant, tuple[Address, ...]]:
    names = tuple(field.name for field in fields(Variant))
    settings = Settings("fusion", config, ("sites", *names))
    sites = settings.sites(fitting, SITES)
    variant = Variant(**{name: settings.flag(name) for name in names})
    if not (variant.query or variant.key or variant.value):
        settings.wrong("has none of query, key and value: there is nothing to attend with")
    settings.done()
    return variant, tuple(sites)
