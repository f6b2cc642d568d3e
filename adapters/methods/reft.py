"""ReFT: Wu et al. 2024 (arXiv:2404.03592): hidden states of a row's first and last tokens, edited in a subspace.

    x' = x + R^T (act(W x + b) - R x)      LoReFT: R has orthonormal rows;  NoReFT: any R;  DiReFT: without R x

Unit 0 edits the first tokens, unit 1 the last (`tied`: unit 0 both). Tokens that are first and last are edited once,
as last ones; rows shorter than that have fewer tokens edited. (AdapterHub's mixture up of first and last tokens, in
batches that are shorter than `suffix_positions`, is not repeated.)

An orthogonal R is stored as torch's `parametrizations.orthogonal` has it, and made once: with X = original^T,
Q = prod_j (I - tau_j v_j v_j^T), v_j = column j of X below its diagonal with 1 on it, R = (base Q diag(X))^T.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, chain, pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from adapters.architectures.sites import Address
from adapters.errors import Misfit
from adapters.kernels.arena import Stacked
from adapters.kernels.ragged import enter
from adapters.kernels.runs import Runs
from adapters.kernels.upload import upload
from adapters.methods.base import Fitting, Operand, Shapes, at, prefixed
from adapters.methods.settings import Settings, activation
from adapters.weights import Block, Folded, Insertion

MAX_POSITIONS = 4096


@dataclass(frozen=True)
class Variant:
    """What changes the code path; `subtracts`: R x is taken off behind a non-linearity (else W has it in already)."""

    first: int  # tokens at the start of a row
    last: int  # tokens at its end
    tied: bool
    non_linearity: str | None
    subtracts: bool


@dataclass(frozen=True)
class Setup:
    """A configuration that was read."""

    variant: Variant
    layers: tuple[int, ...]
    rank: int
    orthogonal: bool
    subtract: bool

    @property
    def units(self) -> range:
        """Units that are stored."""
        return range(1 if self.variant.tied else 2)

    @property
    def used(self) -> tuple[int, ...]:
        """Units that have tokens to edit."""
        if self.variant.tied:
            return (0,)
        return tuple(unit for unit, count in enumerate((self.variant.first, self.variant.last)) if count)


@dataclass(frozen=True)
class Reft:
    """The method. Only the first member of a composition brings it, as in AdapterHub."""

    name: str = "reft"
    first_only: bool = True

    def shapes(self, config: Mapping[str, Any], fitting: Fitting) -> Shapes:
        """See `Method.shapes`. Per layer and unit: source [r, h], and projection [r, h] or original [r, h], base [h, h]."""
        setup, h = _read(config, fitting), fitting.geometry.hidden_size
        found: Shapes = {}
        for layer in setup.layers:
            for unit in setup.units:
                names: Shapes = {"source.weight": (setup.rank, h), "source.bias": (setup.rank,)}
                names |= {"original": (setup.rank, h), "base": (h, h)} if setup.orthogonal else {}
                names |= {} if setup.orthogonal else {"projection": (setup.rank, h)}
                found |= prefixed(Address(layer, "layer_out"), {f"units.{unit}.{n}": s for n, s in names.items()})
        return found

    def initialise(self, config: Mapping[str, Any], fitting: Fitting, generator: torch.Generator) -> dict[str, Tensor]:
        """As torch's linear maps; an orthogonal R starts as the first rows of a random orthogonal `base`."""
        made: dict[str, Tensor] = {}
        for name, shape in self.shapes(config, fitting).items():
            parameter = name.rsplit(".", 1)[1]
            if parameter == "original":
                made[name] = -torch.eye(*shape)  # what torch starts with: the reflections of -1 give the identity
            elif parameter == "base":
                made[name] = torch.linalg.qr(torch.randn(shape, generator=generator)).Q.T.contiguous()
            else:
                bound = fitting.geometry.hidden_size**-0.5
                made[name] = (torch.rand(shape, generator=generator) * 2 - 1) * bound
        return made

    def fold(self, config: Mapping[str, Any], tensors: Mapping[str, Tensor], fitting: Fitting) -> dict[Address, Folded]:
        """Per unit: down W (less R, where nothing stands between), up R^T. Raises `Misfit`: an original that has no R."""
        setup = _read(config, fitting)
        folded: dict[Address, Folded] = {}
        reasons: list[str] = []
        for layer in setup.layers:
            address = Address(layer, "layer_out")
            held, made = at(tensors, address), dict[str, Tensor]()
            for unit in setup.used:
                own = {n.removeprefix(f"units.{unit}."): t for n, t in held.items() if n.startswith(f"units.{unit}.")}
                if setup.orthogonal and not _has_unit_diagonal(own["original"]):
                    reasons.append(
                        f"reft: {address}/units.{unit}.original must have exactly 1 or -1 on its diagonal, or its "
                        f"projection is not orthogonal; store it in float32, and train it without weight decay"
                    )
                    continue
                made |= {f"units.{unit}.{name}": t for name, t in _unit(setup, own).items()}
            folded[address] = Folded(self.name, setup.variant, made)
        if reasons:
            raise Misfit(reasons)
        return folded

    def insertion(self, config: Mapping[str, Any]) -> Insertion | None:
        """None: rows keep their tokens."""
        return None

    def layer_out(self, h: Tensor, operand: Operand) -> Tensor:
        """See `ActsOnLayer`: h with the tokens at the rows' ends edited."""
        variant, runs = operand.variant, operand.runs
        assert isinstance(variant, Variant)
        edited = runs.once((self.name, variant), lambda: _edited(variant, runs))
        if edited is None:
            return h
        return h.index_add(0, edited.index, _edit(h.index_select(0, edited.index), variant, edited, operand.params))

    def settled(self, block: Block, seen: int) -> bool:
        """See `ActsByPlace`: a row's last tokens are others once it grows."""
        variant = block.variant
        assert isinstance(variant, Variant)
        return not variant.last and seen >= variant.first


REFT = Reft()


def reference(folded: Folded, x: Tensor) -> Tensor:
    """One row under one adapter, [tokens, h], token by token."""
    v, t, out = folded.variant, folded.tensors, x.clone()
    assert isinstance(v, Variant)
    for place in range(len(x)):
        if place >= len(x) - v.last:
            unit = "units.0" if v.tied else "units.1"
        elif place < v.first:
            unit = "units.0"
        else:
            continue
        source = functional.linear(x[place], t[f"{unit}.down.weight"], t[f"{unit}.down.bias"])
        source = source if v.non_linearity is None else activation(v.non_linearity)(source)
        source = source - t[f"{unit}.projection"] @ x[place] if v.subtracts else source
        out[place] = x[place] + t[f"{unit}.up.weight"] @ source
    return out


def orthogonal(original: Tensor, base: Tensor) -> Tensor:
    """R [r, h] with orthonormal rows from original [r, h] and base [h, h]; differentiable in `original` alone."""
    wide = torch.float32 if original.dtype in (torch.float16, torch.bfloat16) else original.dtype
    x = original.to(wide).mT
    below = x.tril(-1)
    q = torch.linalg.householder_product(below, 2 / (1 + (below * below).sum(0)))
    r: Tensor = (base.detach().to(wide) @ (q * x.detach().diagonal())).mT
    return r


def _has_unit_diagonal(original: Tensor) -> bool:
    """Whether it is +-1 throughout. NaN passes: who reads a package refuses that by name."""
    diagonal = original.detach().diagonal().abs()
    return bool(((diagonal == 1) | diagonal.isnan()).all())


def _unit(setup: Setup, own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    r = orthogonal(own["original"], own["base"]) if setup.orthogonal else own["projection"]
    weight = own["source.weight"]
    if setup.variant.subtracts:
        extra = {"projection": r}
    else:
        weight, extra = weight - r if setup.subtract else weight, {}
    return {"down.weight": weight, "down.bias": own["source.bias"], "up.weight": r.mT, **extra}


def _spans(v: Variant, rows: Sequence[tuple[int, int]]) -> dict[int, list[tuple[int, int]]]:
    """Per unit, the ranges of tokens to edit, ascending and none empty; no token is in two of them."""
    starts = [(start, min(start + v.first, max(start, end - v.last))) for start, end in rows]
    ends = [(max(start, end - v.last), end) for start, end in rows]
    units = [[*chain.from_iterable(zip(starts, ends, strict=True))]] if v.tied else [starts, ends]
    taken = {unit: [(a, b) for a, b in spans if a < b] for unit, spans in enumerate(units)}
    return {unit: spans for unit, spans in taken.items() if spans}


@dataclass(frozen=True, eq=False)
class _Edited:
    """The tokens to edit, unit after unit: their places [n], their segments, and which adapters each unit has there."""

    index: Tensor
    runs: Runs
    units: tuple[tuple[int, tuple[int, ...]], ...]  # unit, and the segments of the operand that have tokens in it

    def parameter(self, name: str, params: Mapping[str, Stacked]) -> Stacked:
        """One parameter of every segment of `runs`."""
        held = [params[f"units.{unit}.{name}"] for unit, _ in self.units]
        offsets = [own.offsets[list(kept)] for own, (_, kept) in zip(held, self.units, strict=True)]
        return Stacked(held[0].arena, np.concatenate(offsets), held[0].shape, held[0].align)


def _edited(variant: Variant, runs: Runs) -> _Edited | None:
    """What a pass edits; None where no row has a token to edit."""
    borders = [*accumulate(runs.lengths, initial=0)]
    index: list[int] = []
    lengths: list[int] = []
    units: list[tuple[int, tuple[int, ...]]] = []
    for unit, spans in _spans(variant, runs.rows).items():
        own = [0] * len(runs.lengths)
        segment = 0
        for start, end in spans:
            while start >= borders[segment + 1]:
                segment += 1
            own[segment] += end - start
            index += range(start, end)
        units.append((unit, tuple(i for i, length in enumerate(own) if length)))
        lengths += [length for length in own if length]
    if not units:
        return None
    bounds = tuple(pairwise(accumulate(lengths, initial=0)))
    places = upload(torch.tensor(index), runs.device)
    return _Edited(places, Runs(bounds, bounds, len(index), runs.device, runs.kernels), tuple(units))


def _edit(x: Tensor, v: Variant, edited: _Edited, params: Mapping[str, Stacked]) -> Tensor:
    """R^T (act(W x + b) - R x), [n, h]."""
    down, bias, up = (edited.parameter(name, params) for name in ("down.weight", "down.bias", "up.weight"))
    rank, hidden = down.shape
    tokens = enter(x, edited.runs, ((hidden, rank), (rank, hidden)))
    source = tokens.linear(down, bias)
    if v.non_linearity is not None:
        source = source.map(activation(v.non_linearity))
    if v.subtracts:
        projected = tokens.linear(edited.parameter("projection", params), None).data
        source = source.map(lambda z: z - projected)
    return source.linear(up, None).leave()


def _read(config: Mapping[str, Any], fitting: Fitting) -> Setup:
    known = ("layers", "rank", "prefix_positions", "suffix_positions", "tied", "orthogonal", "subtract_projection")
    settings = Settings("reft", config, (*known, "non_linearity"))
    non_linearity = None if config.get("non_linearity") is None else settings.activation("non_linearity")
    subtract = settings.flag("subtract_projection")
    first, last = (settings.count(key, MAX_POSITIONS, 0) for key in ("prefix_positions", "suffix_positions"))
    if not first and not last:
        settings.wrong("prefix_positions and suffix_positions are both 0: it edits no token")
    setup = Setup(
        variant=Variant(first, last, settings.flag("tied"), non_linearity, subtract and non_linearity is not None),
        layers=settings.layers(fitting),
        rank=settings.count("rank"),
        orthogonal=settings.flag("orthogonal"),
        subtract=subtract,
    )
    if setup.orthogonal and setup.rank >= fitting.geometry.hidden_size:
        settings.wrong(f"an orthogonal projection of rank {setup.rank} needs a backbone that is wider than that")
    settings.done()
    return setup
