"""Bottleneck adapters, with every placement and order that AdapterHub has.

Houlsby et al. 2019 (arXiv:1902.00751), Pfeiffer et al. 2020 (arXiv:2005.00052), parallel: He et al. 2021
(arXiv:2110.04366).

    z = act(W_d x + b_d);  u = scaling * (W_u z + b_u);  u = mean over the row of sigmoid(W_g x + b_g) * u  (gating)
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from adapters.architectures.sites import Address
from adapters.kernels.ragged import Ragged, enter, row_mean
from adapters.kernels.runs import Runs
from adapters.methods.base import Fitting, Norm, Operand, Shapes, at, prefixed
from adapters.methods.settings import Settings, activation, count_in
from adapters.weights import Folded, Insertion

SITES = ("attn_junction", "ffn_junction")
NORM_EPS = 1e-5


@dataclass(frozen=True)
class Variant:
    """What changes the code path; names as in AdapterHub's BnConfig. `scaling` is None where a tensor holds it."""

    non_linearity: str
    is_parallel: bool
    ln_before: bool
    ln_after: bool
    residual_before_ln: bool | str  # True: f; False: the adapter's own input; "post_add": f + r
    adapter_residual_before_ln: bool
    original_ln_before: bool
    original_ln_after: bool
    scaling: float | None
    use_gating: bool


@dataclass(frozen=True)
class Bottleneck:
    """The method."""

    name: str = "bottleneck"
    first_only: bool = False

    def shapes(self, config: Mapping[str, Any], fitting: Fitting) -> Shapes:
        """See `Method.shapes`. Per site: down [b, h], up [h, b], and what scaling, gating and own norms need."""
        variant, widths = _read(config, fitting)
        h = fitting.geometry.hidden_size
        extra: Shapes = {}
        if variant.scaling is None:
            extra["scaling"] = (1,) if config["scaling"] == "learned" else (h,)
        if variant.use_gating:
            extra |= {"gate.weight": (1, h), "gate.bias": (1,)}
        if variant.ln_before:
            extra |= {"norm_before.weight": (h,), "norm_before.bias": (h,)}
        if variant.ln_after:
            extra |= {"norm_after.weight": (h,), "norm_after.bias": (h,)}
        found: Shapes = {}
        for address, b in widths.items():
            base = {"down.weight": (b, h), "down.bias": (b,), "up.weight": (h, b), "up.bias": (h,)}
            found |= prefixed(address, base | extra)
        return found

    def initialise(self, config: Mapping[str, Any], fitting: Fitting, generator: torch.Generator) -> dict[str, Tensor]:
        """BERT's initialisation: weights N(0, 0.02), biases 0; scaling and norms start as the identity."""
        fresh: dict[str, Tensor] = {}
        for name, shape in self.shapes(config, fitting).items():
            parameter = name.rsplit("/", 1)[1]
            if parameter in ("scaling", "norm_before.weight", "norm_after.weight"):
                fresh[name] = torch.ones(shape)
            elif parameter.endswith("bias"):
                fresh[name] = torch.zeros(shape)
            else:
                fresh[name] = torch.randn(shape, generator=generator) * 0.02
        return fresh

    def fold(self, config: Mapping[str, Any], tensors: Mapping[str, Tensor], fitting: Fitting) -> dict[Address, Folded]:
        """Nothing is merged: the parameters of each site as they are."""
        variant, widths = _read(config, fitting)
        return {address: Folded(self.name, variant, at(tensors, address)) for address in widths}

    def insertion(self, config: Mapping[str, Any]) -> Insertion | None:
        """None: rows keep their tokens."""
        return None

    def junction(self, h: Tensor, f: Tensor, r: Tensor, norm: Norm, normed: Tensor | None, operand: Operand) -> Tensor:
        """AdapterHub's `pre_forward`, the adapter, and, at the final depth, its `post_forward`."""
        variant = operand.variant
        assert isinstance(variant, Variant)
        x, residual = _inputs(variant, h, r, norm, normed)
        out = _up(variant, x, operand)
        if variant.adapter_residual_before_ln and residual is not None:
            out = out + residual
        if variant.ln_after:
            weight, bias = operand.params["norm_after.weight"], operand.params["norm_after.bias"]
            out = Ragged(out, operand.runs, padded=False).layer_norm(weight, bias, NORM_EPS).leave()
        if not variant.adapter_residual_before_ln and residual is not None:
            out = out + residual
        if not operand.final:
            return out
        if variant.is_parallel:
            out = out + f
        return norm(out + r) if variant.original_ln_after else out


BOTTLENECK = Bottleneck()


def reference(folded: Folded, f: Tensor, r: Tensor, norm: Norm) -> Tensor:
    """One row under one adapter, [tokens, h]; the plain formula (post-LN family)."""
    v, t = folded.variant, folded.tensors
    assert isinstance(v, Variant)
    x = r if v.is_parallel else norm(f + r) if v.original_ln_before else f
    res = {"post_add": f + r if v.original_ln_before else None, True: f, False: x}[v.residual_before_ln]
    z = functional.layer_norm(x, x.shape[-1:], t["norm_before.weight"], t["norm_before.bias"]) if v.ln_before else x
    u = functional.linear(activation(v.non_linearity)(functional.linear(z, t["down.weight"], t["down.bias"])), t["up.weight"], t["up.bias"])  # fmt: skip
    u = u * (t["scaling"] if v.scaling is None else v.scaling)
    u = u * torch.sigmoid(functional.linear(x, t["gate.weight"], t["gate.bias"])).mean(0) if v.use_gating else u
    u = u + res if v.adapter_residual_before_ln and res is not None and not v.is_parallel else u
    u = functional.layer_norm(u, u.shape[-1:], t["norm_after.weight"], t["norm_after.bias"]) if v.ln_after else u
    u = u + res if not v.adapter_residual_before_ln and res is not None and not v.is_parallel else u
    u = u + f if v.is_parallel else u
    return norm(u + r) if v.original_ln_after else u


def _inputs(v: Variant, h: Tensor, r: Tensor, norm: Norm, normed: Tensor | None) -> tuple[Tensor, Tensor | None]:
    if v.is_parallel:
        return r, None
    residual = h if v.residual_before_ln is True else None
    if v.original_ln_before:
        summed = h + r if normed is None or v.residual_before_ln == "post_add" else None
        if v.residual_before_ln == "post_add":
            residual = summed
        x = normed if normed is not None else norm(h + r if summed is None else summed)
    else:
        x = h
    return x, x if v.residual_before_ln is False else residual


def _up(v: Variant, x: Tensor, operand: Operand) -> Tensor:
    p, runs = operand.params, operand.runs
    width, hidden = p["down.weight"].shape
    tokens = enter(x, runs, ((hidden, width), (width, hidden)))
    z = tokens.layer_norm(p["norm_before.weight"], p["norm_before.bias"], NORM_EPS) if v.ln_before else tokens
    z = z.linear(p["down.weight"], p["down.bias"]).map(activation(v.non_linearity))
    z = z.linear(p["up.weight"], p["up.bias"])
    if v.scaling is None:
        z = z.scale(p["scaling"])
    elif v.scaling != 1.0:
        factor = v.scaling
        z = z.map(lambda u: u * factor)
    out = z.leave()
    return out * _gate(tokens, operand, runs) if v.use_gating else out


def _gate(tokens: Ragged, operand: Operand, runs: Runs) -> Tensor:
    gate = tokens.linear(operand.params["gate.weight"], operand.params["gate.bias"]).map(torch.sigmoid).leave()
    return row_mean(gate, runs).index_select(0, runs.row_of_token)


def _read(config: Mapping[str, Any], fitting: Fitting) -> tuple[Variant, dict[Address, int]]:
    known = ("sites", *(field.name for field in fields(Variant)))
    settings = Settings("bottleneck", config, known)
    sites = settings.sites(fitting, SITES)
    widths = {address: count_in(settings, f"sites.{address}", held, "width") for address, held in sites.items()}
    raw = config.get("scaling")
    scaling = float(raw) if isinstance(raw, int | float) and not isinstance(raw, bool) else None
    if scaling is None and raw not in ("learned", "channel"):
        settings.wrong(f"scaling must be a number, 'learned' or 'channel', not {raw!r}")
    variant = Variant(
        non_linearity=settings.activation("non_linearity"),
        is_parallel=settings.flag("is_parallel"),
        ln_before=settings.flag("ln_before"),
        ln_after=settings.flag("ln_after"),
        residual_before_ln=settings.choice("residual_before_ln", (True, False, "post_add")),
        adapter_residual_before_ln=settings.flag("adapter_residual_before_ln"),
        original_ln_before=settings.flag("original_ln_before"),
        original_ln_after=settings.flag("original_ln_after"),
        scaling=scaling,
        use_gating=settings.flag("use_gating"),
    )
    if variant.residual_before_ln == "post_add" and not variant.original_ln_before:
        settings.wrong("residual_before_ln 'post_add' needs original_ln_before")
    settings.done()
    return variant, widths
