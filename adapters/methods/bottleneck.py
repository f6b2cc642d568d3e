"""Bottleneck adapters, with every placement and order that AdapterHub has.

Houlsby et al. 2019 (arXiv:1902.00751), Pfeiffer et al. 2020 (arXiv:2005.00247), parallel: He et al. 2021
(arXiv:2110.04366), AdapterPlus: Steitz and Roth 2024 (arXiv:2406.06820).

    z = act(W_d x + b_d);  u = scaling * (W_u z + b_u);  y = mean over the row of sigmoid(W_g x + b_g) * u  (gating)

Stages as in AdapterHub: `enter` makes x and the adapter's residual of f and r, `run` is the adapter, `leave` adds r and
applies the frozen norm where that is the adapter's to do.
"""

from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional

from adapters.architectures.sites import Address
from adapters.kernels.cpu import ACTIVATIONS, Bottlenecks, Form
from adapters.kernels.norms import wide
from adapters.kernels.ragged import Ragged, enter, kernels_for
from adapters.methods.base import Fitting, Meeting, Operand, Shapes, at, prefixed
from adapters.methods.gate import gate_shapes, row_gate
from adapters.methods.settings import Settings, activation, count_in, is_number, known_in
from adapters.weights import Folded, Insertion

SITES = ("attn_junction", "cross_junction", "ffn_junction")
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


MEMBERS = ("sites", *(field.name for field in fields(Variant)))  # of a configuration


@dataclass(frozen=True)
class Bottleneck:
    """The method."""

    name: str = "bottleneck"
    first_only: bool = False

    def shapes(self, config: Mapping[str, Any], fitting: Fitting) -> Shapes:
        """See `Method.shapes`. Per site: down [b, h], up [h, b], and what scaling, gating and own norms need."""
        settings = Settings(self.name, config, MEMBERS)
        variant, widths = read_members(settings, config, fitting)
        settings.done()
        h = fitting.geometry.hidden_size
        extra = extra_shapes(variant, config["scaling"], h)
        found: Shapes = {}
        for address, b in widths.items():
            base = {"down.weight": (b, h), "down.bias": (b,), "up.weight": (h, b), "up.bias": (h,)}
            found |= prefixed(address, base | extra)
        return found

    def initialise(self, config: Mapping[str, Any], fitting: Fitting, generator: torch.Generator) -> dict[str, Tensor]:
        """BERT's initialisation: weights N(0, 0.02), biases 0; scaling and norms start as the identity."""
        return {name: fresh(name, shape, generator) for name, shape in self.shapes(config, fitting).items()}

    def fold(self, config: Mapping[str, Any], tensors: Mapping[str, Tensor], fitting: Fitting) -> dict[Address, Folded]:
        """Nothing is merged: the parameters of each site as they are."""
        settings = Settings(self.name, config, MEMBERS)
        variant, widths = read_members(settings, config, fitting)
        settings.done()
        return {address: folded(variant, at(tensors, address)) for address in widths}

    def insertion(self, config: Mapping[str, Any]) -> Insertion | None:
        """None: rows keep their tokens."""
        return None

    def enter(self, h: Tensor, meeting: Meeting, variant: Hashable) -> tuple[Tensor, Tensor]:
        """See `ActsOnJunction`: AdapterHub's `pre_forward`. A parallel adapter reads r, and `run` adds no residual."""
        assert isinstance(variant, Variant)
        if variant.is_parallel:
            return meeting.r, meeting.r
        if not variant.original_ln_before:
            return h, h
        if variant.residual_before_ln == "post_add":
            return _normed(h, meeting), h + meeting.r
        x = _normed(h, meeting)
        return x, h if variant.residual_before_ln is True else x

    def run(self, x: Tensor, residual: Tensor, operand: Operand) -> tuple[Tensor, Tensor]:
        """See `ActsOnJunction`; the contribution is u: scaled, before gating, own norm and residual."""
        variant = operand.variant
        assert isinstance(variant, Variant)
        up, gate = _up(variant, x, operand)
        out = up if gate is None else up * gate
        has_residual = not variant.is_parallel
        if has_residual and variant.adapter_residual_before_ln:
            out = out + residual
        if variant.ln_after:
            weight, bias = operand.params["norm_after.weight"], operand.params["norm_after.bias"]
            out = Ragged(out, operand.runs, padded=False).layer_norm(weight, bias, NORM_EPS).leave()
        if has_residual and not variant.adapter_residual_before_ln:
            out = out + residual
        return out, up

    def leave(self, h: Tensor, meeting: Meeting, variant: Hashable) -> Tensor:
        """See `ActsOnJunction`: AdapterHub's `post_forward`."""
        assert isinstance(variant, Variant)
        out = h + meeting.f if variant.is_parallel else h
        if not meeting.adds:
            return out - meeting.r if _takes_off(variant, meeting) else out
        if not variant.original_ln_after:
            return out
        out = out + meeting.r
        return out if meeting.norm is None else meeting.norm(out)

    def settle(self, h: Tensor, meeting: Meeting, out: Tensor, operand: Operand, *, leaves: bool) -> bool:
        """See `ActsOnJunction`: own norms, gates and learned scalings have no kernel."""
        variant, p = operand.variant, operand.params
        assert isinstance(variant, Variant)
        kernels = kernels_for(h, operand.runs)
        own = variant.ln_before or variant.ln_after or variant.use_gating or variant.scaling is None
        if (
            kernels is None
            or own
            or variant.non_linearity not in ACTIVATIONS
            or (leaves and _takes_off(variant, meeting))
        ):
            return False
        down, up = p["down.weight"], p["up.weight"]
        held = Bottlenecks(down.shape[0], down.starts, p["down.bias"].starts, up.starts, p["up.bias"].starts)
        form = _form(variant, closes=leaves and meeting.adds and variant.original_ln_after, leaves=leaves)
        f = meeting.f if variant.is_parallel else h
        kernels.bottleneck(f, meeting.r, out, operand.runs.places, down.arena, held, form, wide(meeting.norm))
        return True

    def query(self, h: Tensor, x: Tensor, meeting: Meeting, variant: Hashable, *, before_norm: bool) -> Tensor:
        """See `ActsOnJunction`; a parallel adapter asks with r."""
        assert isinstance(variant, Variant)
        if variant.is_parallel:
            return meeting.r
        return h if before_norm else x


BOTTLENECK = Bottleneck()


def reference(
    folded: Folded,
    f: Tensor,
    r: Tensor,
    norm: Callable[[Tensor], Tensor] | None,
    *,
    adds: bool = True,
    removable: bool = False,
) -> Tensor:
    """One row under one adapter, [tokens, h]; the plain formula. `norm`, `adds`, `removable`: see `Meeting`."""
    v, t = folded.variant, folded.tensors
    assert isinstance(v, Variant)
    normed = f + r if norm is None else norm(f + r)
    x = r if v.is_parallel else normed if v.original_ln_before else f
    res = {"post_add": f + r, True: f, False: x}[v.residual_before_ln] * (0 if v.is_parallel else 1)
    z = functional.layer_norm(x, x.shape[-1:], t["norm_before.weight"], t["norm_before.bias"]) if v.ln_before else x
    z = activation(v.non_linearity)(functional.linear(z, t["down.weight"], t["down.bias"]))
    u = functional.linear(z, t["up.weight"], t["up.bias"]) * (t["scaling"] if v.scaling is None else v.scaling)
    y = u * torch.sigmoid(functional.linear(x, t["gate.weight"], t["gate.bias"])).mean(0) if v.use_gating else u
    y = y + res if v.adapter_residual_before_ln else y
    y = functional.layer_norm(y, y.shape[-1:], t["norm_after.weight"], t["norm_after.bias"]) if v.ln_after else y
    y = y if v.adapter_residual_before_ln else y + res
    y = y + f if v.is_parallel else y
    if not (adds and v.original_ln_after):
        return y - r if removable and not v.original_ln_after else y
    return y + r if norm is None else norm(y + r)


def read_members(settings: Settings, config: Mapping[str, Any], fitting: Fitting) -> tuple[Variant, dict[Address, int]]:
    """The variant, and the width of every site; notes in `settings` what is wrong. Compacters have these members too."""
    sites = settings.sites(fitting, SITES)
    for address, held in sites.items():
        known_in(settings, f"sites.{address}", held, ("width",))
    widths = {address: count_in(settings, f"sites.{address}", held, "width") for address, held in sites.items()}
    raw = config.get("scaling")
    scaling = float(raw) if is_number(raw) else None
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
    if variant.residual_before_ln == "post_add" and not variant.is_parallel:
        _check_post_add(settings, variant, widths, fitting)
    return variant, widths


def extra_shapes(variant: Variant, scaling: Any, hidden: int) -> Shapes:
    """What a site stores beside its two maps; `scaling` as configured."""
    extra: Shapes = {}
    if variant.scaling is None:
        extra["scaling"] = (1,) if scaling == "learned" else (hidden,)
    if variant.use_gating:
        extra |= gate_shapes(hidden)
    if variant.ln_before:
        extra |= {"norm_before.weight": (hidden,), "norm_before.bias": (hidden,)}
    if variant.ln_after:
        extra |= {"norm_after.weight": (hidden,), "norm_after.bias": (hidden,)}
    return extra


def fresh(name: str, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """One parameter as BERT starts it: N(0, 0.02), biases 0; scaling and norms as the identity."""
    parameter = name.rsplit("/", 1)[1]
    if parameter in ("scaling", "norm_before.weight", "norm_after.weight"):
        return torch.ones(shape)
    if parameter.endswith("bias"):
        return torch.zeros(shape)
    return torch.randn(shape, generator=generator) * 0.02


def folded(variant: Variant, tensors: Mapping[str, Tensor]) -> Folded:
    """One site's parameters, in one order whoever stored them, so that adapters of one kin are known by it."""
    return Folded(BOTTLENECK.name, variant, dict(sorted(tensors.items())))


def _check_post_add(settings: Settings, v: Variant, sites: Iterable[Address], fitting: Fitting) -> None:
    """AdapterHub has no value for f + r where no norm follows it (its `pre_forward` fails)."""
    if not v.original_ln_before:
        settings.wrong("residual_before_ln 'post_add' needs original_ln_before")
    family = fitting.architecture
    bare = [str(a) for a in sites if family.stack(a.layer).junctions[a.site].norm is None]
    if bare:
        settings.wrong(f"residual_before_ln 'post_add' needs a norm behind the sublayer; none is at {', '.join(bare)}")


def _form(v: Variant, *, closes: bool, leaves: bool) -> Form:
    """What the kernel reads and adds, as `enter`, `run` and `leave` do."""
    reads: Literal["normed", "f", "r"] = "normed" if v.original_ln_before else "f"
    adds: Literal["none", "f", "x", "sum"] = "f"
    if v.is_parallel:  # it has no residual of its own; the one that leaves adds f
        reads, adds = "r", "f" if leaves else "none"
    elif v.original_ln_before and v.residual_before_ln == "post_add":
        adds = "sum"
    elif v.original_ln_before and v.residual_before_ln is False:
        adds = "x"
    assert v.scaling is not None
    return Form(reads, adds, closes, v.non_linearity, v.scaling)


def _takes_off(variant: Variant, meeting: Meeting) -> bool:
    """Whether an adapter that adds no residual leaves where the model will add it."""
    return meeting.removable and not variant.original_ln_after


def _normed(h: Tensor, meeting: Meeting) -> Tensor:
    """norm(h + r), which the plan may know already."""
    if meeting.normed is not None:
        return meeting.normed
    summed = h + meeting.r
    return summed if meeting.norm is None else meeting.norm(summed)


def _up(v: Variant, x: Tensor, operand: Operand) -> tuple[Tensor, Tensor | None]:
    """u [n, h], and every token's factor [n, 1] where there is a gate."""
    p = operand.params
    width, hidden = p["down.weight"].shape
    tokens = enter(x, operand.runs, ((hidden, width), (width, hidden)))
    z = tokens.layer_norm(p["norm_before.weight"], p["norm_before.bias"], NORM_EPS) if v.ln_before else tokens
    z = z.linear(p["down.weight"], p["down.bias"]).map(activation(v.non_linearity))
    z = z.linear(p["up.weight"], p["up.bias"])
    if v.scaling is None:
        z = z.scale(p["scaling"])
    elif v.scaling != 1.0:
        factor = v.scaling
        z = z.map(lambda u: u * factor)
    return z.leave(), row_gate(x, operand) if v.use_gating else None
