"""LoRA: Hu et al. 2021 (arXiv:2106.09685); rsLoRA (arXiv:2312.03732) differs in the scaling alone.

    y' = y + delta      y = W x + b      delta = scaling * (B A x + bias)      a stack chains the deltas

The scaling is folded into B, and the rank is padded with zeros to a class, so that adapters of near ranks share a GEMM.
A gate (`gate`) replaces the scaling; DoRA (`dora`) replaces the sum. VeRA and MTL-LoRA fold to blocks of this method.
PEFT may train the frozen map's bias along (`base_bias`, in the place of b). The table of word vectors is a map of one-hot
tokens, whose A x is a row of A^T: x are ids there. Other tables are small, and folded whole.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from adapters.architectures.sites import TABLES, Address
from adapters.errors import Misfit
from adapters.kernels.ragged import enter, kernels_for, looked_up
from adapters.methods.base import Fitting, Operand, Shapes, prefixed, wide_at
from adapters.methods.dora import FLAVOURS, MAGNITUDE, SHIFT, decompose, stretch
from adapters.methods.fused import at_parts
from adapters.methods.gate import BIAS, WEIGHT, gate_shapes, row_gate
from adapters.methods.lora_start import STARTS, without_start
from adapters.methods.settings import Settings, choice_in, count_in, flag_in, known_in, number_in
from adapters.methods.tables import ADDED, changed_rows
from adapters.methods.word_rows import DECODER_WORDS, WORD_ROWS, WORDS
from adapters.weights import Block, Folded, Insertion

_ATTENTION = ("attn_q", "attn_k", "attn_v", "attn_qkv", "attn_out", "cross_q", "cross_k", "cross_v", "cross_out")
SITES = (*_ATTENTION, "ffn_in", "ffn_gate", "ffn_out", "embed_map", "pooler")
TURNED = "turned"  # a variant: it changes what the map reads, and so adds to nothing (see `adapters.methods.tuners`)
IDS = "ids"  # the variant of blocks at the table of word vectors
_LOOKED_UP = (WORDS, DECODER_WORDS)
LONGEST_INVOCATION = 256  # tokens
RANK_CLASSES = (8, 16, 32, 64)  # ranks above are padded to a multiple of the last


@dataclass(frozen=True)
class LowRank:
    """The settings of one site; `gated`: a gate stands for the scaling, `dora`: one of `dora.FLAVOURS`.

    `start`: what is taken out of the frozen map, one of `lora_start.STARTS`.
    """

    rank: int
    scaling: float
    bias: bool = False
    gated: bool = False
    dora: str = "none"
    start: str = "none"
    base_bias: bool = False
    base_table: bool = False

    def extras(self, wide: int, out: int) -> Shapes:
        """The stored tensors that the settings ask for beside the matrices."""
        extra: Shapes = gate_shapes(wide) if self.gated else {}
        if self.bias:
            extra |= {"lora_bias": (out,)}
        if self.base_bias:
            extra |= {"base_bias": (out,)}
        if self.base_table:
            extra |= {"base_table": (wide, out)}
        return extra | ({MAGNITUDE: (out,)} if self.dora != "none" else {})


@dataclass(frozen=True)
class Lora:
    """The method."""

    name: str = "lora"
    first_only: bool = False

    def shapes(self, config: Mapping[str, Any], fitting: Fitting) -> Shapes:
        """See `Method.shapes`. Per site: lora_A [r, in], lora_B [out, r]; lora_bias [out], magnitude [out], gate.*."""
        found: Shapes = {}
        for address, site in _read(config, fitting).items():
            wide, out = fitting.widths(address.site)
            found |= prefixed(
                address, {"lora_A": (site.rank, wide), "lora_B": (out, site.rank), **site.extras(wide, out)}
            )
        return found

    def initialise(self, config: Mapping[str, Any], fitting: Fitting, generator: torch.Generator) -> dict[str, Tensor]:
        """A is uniform as a linear map's weight, B is zero, magnitudes are those of W: it starts as the identity."""
        if any(site.start != "none" for site in _read(config, fitting).values()):
            raise Misfit(["lora: what starts as a part of the frozen map is trained by PEFT"])
        return {
            name: uniform(shape, generator) if name.endswith("lora_A") else fresh_extra(name, shape, fitting, generator)
            for name, shape in self.shapes(config, fitting).items()
        }

    def fold(self, config: Mapping[str, Any], tensors: Mapping[str, Tensor], fitting: Fitting) -> dict[Address, Folded]:
        """Scaling into B (and the bias), rank padded with zeros to its class, DoRA's gain from the frozen weights."""
        folded: dict[Address, Folded] = {}
        for address, site in _read(config, fitting).items():
            held = wide_at(tensors, address)
            folded |= at_parts(address, _block(site, held, address, fitting), fitting)
        return folded

    def insertion(self, config: Mapping[str, Any]) -> Insertion | None:
        """None: rows keep their tokens."""
        return None

    def chains(self, block: Block, *, first: bool = False) -> bool:
        """Whether it can follow another in a chain, or, if `first`, be followed: it must add, its map take a state."""
        if block.variant == IDS:
            return first
        return block.variant is None and (first or block.spans["down"].shape[1] == block.spans["up"].shape[0])

    def change(self, h: Tensor | None, x: Tensor, weight: Tensor, operand: Operand) -> Tensor:
        """See `ActsOnLinear`: the delta of the state below, or of x; the gate always reads x."""
        down, up = operand.params["down"], operand.params["up"]
        if operand.variant == IDS:
            narrow = looked_up(down, x[:, 0], operand.runs)
            return enter(narrow, operand.runs, ((up.shape[1], up.shape[0]),)).linear(up, None).leave()
        widths = ((down.shape[1], down.shape[0]), (up.shape[1], up.shape[0]))
        tokens = enter(x if h is None else h, operand.runs, widths)
        delta = tokens.linear(down, None).linear(up, operand.params.get("bias")).leave()
        return delta * row_gate(x, operand) if WEIGHT in operand.params else delta

    def apply(self, h: Tensor, y: Tensor, x: Tensor, weight: Tensor, operand: Operand) -> Tensor:
        """See `ActsOnLinear`: the sum, and DoRA's gain over it."""
        return stretch(y + h, operand)

    def settle(self, x: Tensor, y: Tensor, operand: Operand) -> bool:
        """See `ActsOnLinear`: gates and DoRA have no kernel."""
        kernels, p = kernels_for(x, operand.runs), operand.params
        if kernels is None or operand.variant == IDS or not p.keys() <= {"down", "up", "bias"}:
            return False
        down, up, bias = p["down"], p["up"], p.get("bias")
        starts = None if bias is None else bias.starts
        kernels.low_rank(x, y, operand.runs.places, down.arena, down.starts, up.starts, down.shape[0], starts)
        return True


LORA = Lora()


def reference(site: LowRank, held: Mapping[str, Tensor], x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """One row under one adapter as stored: x [tokens, in], W [out, in], b [out] -> y' [tokens, out]."""
    update = held["lora_B"] @ held["lora_A"]
    own = held.get("base_bias", bias)
    scaling = torch.sigmoid(x @ held[WEIGHT].T + held[BIAS]).mean() if site.gated else torch.tensor(site.scaling)
    delta = scaling * (x @ update.T + held.get("lora_bias", torch.zeros(())))
    match site.dora:
        case "adapterhub":
            return (x @ weight.T + bias + delta) * held[MAGNITUDE] / _row_norms(weight + update)
        case "peft":
            return (x @ weight.T + delta) * held[MAGNITUDE] / _row_norms(weight + scaling * update) + own
        case _:
            return x @ weight.T + own + delta


def rank_class(rank: int) -> int:
    """The least class that holds a rank."""
    return next((c for c in RANK_CLASSES if rank <= c), -(-rank // RANK_CLASSES[-1]) * RANK_CLASSES[-1])


def low_rank(
    down: Tensor, up: Tensor, site: LowRank, held: Mapping[str, Tensor], address: Address, fitting: Fitting
) -> Folded:
    """The block of A [r, in] and B [out, r] under a site's settings; `held` has the extras."""
    scaling, pad = 1.0 if site.gated else site.scaling, rank_class(site.rank) - site.rank
    parameters = {"down": functional.pad(down, (0, 0, 0, pad)), "up": functional.pad(up * scaling, (0, pad))}
    if site.base_table or address.site in ADDED:
        frozen = fitting.weight(address).T.to(up)
        rows = held.get("base_table", frozen) + scaling * (up @ down).T
        rows = rows if site.dora == "none" else rows * held[MAGNITUDE] / _row_norms(rows.T)
        return Folded(WORD_ROWS.name, None, {"rows": rows}) if site.base_table else changed_rows(rows, frozen)
    ids = address in _LOOKED_UP
    if ids:  # looked up by row
        parameters["down"] = parameters["down"].T
    if site.bias:
        parameters["bias"] = held["lora_bias"] * scaling
    if site.gated:
        parameters |= {name: held[name] for name in (WEIGHT, BIAS)}
    if site.dora != "none":
        parameters |= decompose(site.dora, held[MAGNITUDE], up @ down, site.scaling, address, fitting)
    if site.base_bias:
        change, under = fitting.bias_change(address, held["base_bias"]), "bias" if site.dora == "none" else SHIFT
        parameters[under] = parameters[under] + change if under in parameters else change
    return Folded(LORA.name, IDS if ids else None, parameters)


def _block(site: LowRank, held: dict[str, Tensor], address: Address, fitting: Fitting) -> Folded:
    """The block of what is stored; with a start, one of twice the rank, whose scaling is in its tensors already."""
    down, up = held["lora_A"], held["lora_B"]
    if site.start == "none":
        return low_rank(down, up, site, held, address, fitting)
    down, up = without_start(site.start, down, up, site.scaling, fitting.weight(address))
    bias = {"lora_bias": held["lora_bias"] * site.scaling} if site.bias else {}
    return low_rank(down, up, replace(site, rank=2 * site.rank, scaling=1.0), {**held, **bias}, address, fitting)


def uniform(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """The start of a linear map's weight: uniform, bounded by the root of its fan-in."""
    bound = 1 / math.sqrt(shape[-1])
    return torch.rand(shape, generator=generator) * 2 * bound - bound


def fresh_extra(name: str, shape: tuple[int, ...], fitting: Fitting, generator: torch.Generator) -> Tensor:
    """The start of anything but A: a magnitude is the norm of W, a gate is N(0, 0.02), everything else zero.

    A bias in the place of the frozen one starts as that.
    """
    place, parameter = name.rsplit("/", 1)
    if parameter == "base_bias":
        return fitting.bias(Address.parse(place)).float().clone()
    if parameter == MAGNITUDE:
        return _row_norms(fitting.weight(Address.parse(place)).float())
    return torch.randn(shape, generator=generator) * 0.02 if parameter == WEIGHT else torch.zeros(shape)


def _row_norms(matrix: Tensor) -> Tensor:
    return matrix.square().sum(1).sqrt()


def read_site(settings: Settings, where: str, held: Mapping[str, Any], known: tuple[str, ...]) -> LowRank:
    """A site's settings, of which only `known` may be said; gates, biases and DoRA go together as they do upstream."""
    known_in(settings, where, held, known)
    site = LowRank(
        rank=count_in(settings, where, held, "rank"),
        scaling=number_in(settings, where, held, "scaling"),
        bias=flag_in(settings, where, held, "bias"),
        gated=flag_in(settings, where, held, "gated"),
        dora=choice_in(settings, where, held, "dora", FLAVOURS),
        start=choice_in(settings, where, held, "start", STARTS),
        base_bias=flag_in(settings, where, held, "base_bias"),
        base_table=flag_in(settings, where, held, "base_table"),
    )
    if site.base_table and site.dora == "adapterhub":
        settings.wrong(f"{where}: AdapterHub has no DoRA over a table of its own")
    if site.gated and site.dora == "peft":
        settings.wrong(f"{where}: PEFT's DoRA has no gate")
    if site.gated and site.start != "none":
        settings.wrong(f"{where}: a gate goes with no start")
    if site.base_bias and (site.gated or site.dora == "adapterhub"):
        settings.wrong(f"{where}: a base_bias goes with neither a gate nor AdapterHub's DoRA")
    if site.bias and (site.gated or site.dora != "none"):
        settings.wrong(f"{where}: a bias goes with neither a gate nor DoRA")
    return site


def _read(config: Mapping[str, Any], fitting: Fitting) -> dict[Address, LowRank]:
    settings = Settings("lora", config, ("sites", "invocation"))
    _check_invocation(settings, config, fitting)
    known = ("rank", "scaling", "bias", "gated", "dora", "start", "base_bias", "base_table")
    found: dict[Address, LowRank] = {}
    for address, held in settings.sites(fitting, (*SITES, *TABLES)).items():
        site = found[address] = read_site(settings, f"sites.{address}", held, known)
        if address.site in TABLES and (site.bias or site.gated or site.base_bias or site.start != "none"):
            settings.wrong(f"sites.{address}: a table of vectors has neither biases, gates nor starts")
        if address != WORDS and site.base_table:
            settings.wrong(f"sites.{address}: base_table belongs to {WORDS}")
    settings.done()
    return found


def _check_invocation(settings: Settings, config: Mapping[str, Any], fitting: Fitting) -> None:
    """Token ids that call the adapter (activated LoRA), of causal models."""
    if "invocation" not in config:
        return
    tokens, vocabulary = config["invocation"], fitting.geometry.vocabulary
    if not isinstance(tokens, list | tuple) or not 0 < len(tokens) <= LONGEST_INVOCATION:
        settings.wrong(f"invocation must be a list of 1 to {LONGEST_INVOCATION} token ids, not {tokens!r}")
    elif any(type(token) is not int or not 0 <= token < vocabulary for token in tokens):
        settings.wrong(f"invocation must hold ids below {vocabulary}, the size of the backbone's vocabulary")
    if not fitting.architecture.causal:
        settings.wrong("invocation: only the tokens of a causal model are called")
    held = config.get("sites")
    for address, site in (held if isinstance(held, Mapping) else {}).items():
        if str(address).startswith("model/"):
            settings.wrong(f"sites.{address}: an adapter with an invocation acts inside of the layers alone")
        if isinstance(site, Mapping) and any(site.get(name) for name in ("gated", "base_bias")):
            settings.wrong(f"sites.{address}: an invocation goes with neither a gate nor a base_bias")
