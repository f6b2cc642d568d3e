"""Packed disentangled attention: He et al. 2021 (arXiv:2006.03654), as DeBERTa-v2 and v3 compute it.

score(i, j) = (q_i k_j + q_i K[d(i - j)] + k_j Q[d(i - j)]) / sqrt(width * terms)          terms: 1, 2 or 3

Q, K [2A, heads, width] are projections of the table of relative positions, and d maps a distance to one of its 2A
entries. With `share_att_key` the projections are the layer's own maps of queries and keys, so that adapters there
change Q and K for their rows, as those with a table or a norm of it of their own do: their rows are units of their own
(`batch.plan.Relative`). Prefixes have no position.
The model's own code would see one long row: its attention modules and its [tokens, tokens] masks are replaced.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from adapters.architectures.sites import Address
from adapters.batch.attention import Bias, LengthGroup, Packing, attend
from adapters.batch.distances import own_maps, own_norms, own_tables
from adapters.batch.plan import BatchPlan, Relative
from adapters.batch.post_norm import norm_of
from adapters.errors import UnknownArchitecture
from adapters.kernels.norms import FrozenNorm
from adapters.kernels.upload import upload

_TABLE, _NORM = Address(None, "distances"), Address(None, "distance_norm")


@dataclass(frozen=True)
class Distances:
    """Which entry of the table a distance has: its own up to half of `buckets`, logarithmic from there to `farthest`.

    `buckets` 0 or less: every distance up to `farthest` has its own.
    """

    buckets: int
    farthest: int

    @property
    def span(self) -> int:
        """A: entries for distances of one sign."""
        return self.buckets if self.buckets > 0 else self.farthest

    def entries(self, length: int) -> Tensor:
        """The entries of the distances 1 - length .. length - 1, ascending, on the host.

        Logarithms are rounded up: another device's last bit would be another entry.
        """
        distance = torch.arange(1 - length, length)
        if self.buckets > 0:
            middle = self.buckets // 2
            size = distance.abs().clamp(min=max(middle - 1, 1))
            reach = torch.log(torch.tensor((self.farthest - 1) / middle))
            far = torch.ceil(torch.log(size / middle) / reach * (middle - 1)) + middle
            distance = torch.where(size <= middle, distance, (far * distance.sign()).long())
        return (distance + self.span).clamp(0, 2 * self.span - 1)


@dataclass(frozen=True, eq=False)
class Places:
    """The entries that rows of one length use: `low` .. `high` - 1 of the table, and of these one per query and key."""

    low: int
    high: int
    index: Tensor  # [length, length]


@dataclass(frozen=True, eq=False)
class Table:
    """A projection of the position table, [units, 2A, heads, width], and each plan row's unit; None: all use unit 0."""

    values: Tensor
    unit_of_row: Sequence[int] | None

    def of(self, group: LengthGroup, places: Places) -> Tensor:
        """What a group's rows use, [rows or 1, heads, width, high - low]."""
        units = [0] if self.unit_of_row is None else [self.unit_of_row[row] for row in group.rows]
        used = self.values[:, places.low : places.high]
        if len(set(units)) == 1:
            used = used[units[0] : units[0] + 1]
        else:
            used = used.index_select(0, upload(torch.tensor(units), used.device))
        return used.permute(0, 2, 3, 1)


class Surroundings(Protocol):
    """What an attention module must know of the running pass."""

    @property
    def plan(self) -> BatchPlan:
        """The plan that is bound."""
        ...

    @property
    def packing(self) -> Packing:
        """Which rows attend in one call."""
        ...

    def prefixes(self, layer: int) -> Mapping[int, Tensor]:
        """[2, tokens, hidden] by row."""
        ...


class PositionTable:
    """The table [2A, hidden], one for all layers, with its norm, and the entries that the rows of a pass use."""

    def __init__(self, bare: Tensor, norm: FrozenNorm | None, distances: Distances) -> None:
        self.values = bare if norm is None else norm(bare)
        self._bare, self._norm, self._distances = bare, norm, distances
        self._packing: Packing | None = None
        self._places: dict[int, Places] = {}
        self._own: Tensor | None = None

    def own(self, packing: Packing, relative: Relative) -> Tensor | None:
        """The tables of the units [units * 2A, hidden], made once per pass; None where all of them have this one."""
        if not {_TABLE, _NORM} & relative.programs.keys():
            return None
        self._begin(packing)
        if self._own is None:
            tables = own_tables(relative, _TABLE, self._bare)
            self._own = tables if self._norm is None else own_norms(relative, _NORM, tables, self._norm)
        return self._own

    def _begin(self, packing: Packing) -> None:
        if packing is not self._packing:
            self._packing, self._places, self._own = packing, {}, None

    def places(self, packing: Packing, length: int) -> Places:
        """Found once per pass and length."""
        self._begin(packing)
        if length not in self._places:
            entries = self._distances.entries(length)
            low, high = int(entries[0]), int(entries[-1]) + 1
            place = torch.arange(length)
            distance = place[:, None] - place[None, :] + length - 1
            self._places[length] = Places(low, high, upload((entries - low)[distance], packing.device))
        return self._places[length]


class PackedDisentangled:
    """One layer's attention, in the place of the `forward` of the model's own module."""

    def __init__(self, module: Any, layer: int, table: PositionTable | None, surroundings: Surroundings) -> None:
        self._module, self._layer, self._table, self._surroundings = module, layer, table, surroundings
        self._terms = 1 + sum(term in module.pos_att_type for term in ("c2p", "p2c"))
        self._keys = self._queries = None
        if table is not None:
            shared = module.share_att_key
            if "c2p" in module.pos_att_type:
                self._keys = _Projection(table, module.key_proj if shared else module.pos_key_proj)
            if "p2c" in module.pos_att_type:
                self._queries = _Projection(table, module.query_proj if shared else module.pos_query_proj)

    def forward(self, hidden_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, None]:
        """Attention [1, tokens, hidden] of packed rows [1, tokens, hidden]."""
        module, around = self._module, self._surroundings
        q, k, v = (
            self._heads(project(hidden_states).squeeze(0))
            for project in (module.query_proj, module.key_proj, module.value_proj)
        )
        scaling = (q.shape[-1] * self._terms) ** -0.5
        bias = None if self._table is None else self._bias(self._table, scaling)
        out = attend(q, k, v, around.packing, around.prefixes(self._layer), scaling, bias=bias)
        return out.reshape(hidden_states.shape), None

    def _bias(self, table: PositionTable, scaling: float) -> Bias:
        keys, queries = self._projected("attn_k", self._keys), self._projected("attn_q", self._queries)

        def bias(q: Tensor, k: Tensor, group: LengthGroup) -> Tensor:
            places = table.places(self._surroundings.packing, group.length)
            return scaling * position_scores(q, k, group, places, keys, queries)

        return bias

    def _heads(self, x: Tensor) -> Tensor:
        split: Tensor = x.view(*x.shape[:-1], self._module.num_attention_heads, -1)
        return split

    def _projected(self, site: str, projection: "_Projection | None") -> Table | None:
        """A projection, with what the adapters of the running pass make of it."""
        if projection is None:
            return None
        relative = self._surroundings.plan.relative
        if relative is not None:
            own = projection.of_units(relative, Address(self._layer, site), self._surroundings.packing)
            if own is not None:
                return Table(self._heads(own), relative.unit_of_row)
        return Table(self._heads(projection.frozen[None]), None)


class _Projection:
    """A layer's map of the table, past its hooks."""

    def __init__(self, table: PositionTable, linear: nn.Linear) -> None:
        self._table, self._weight, self._bias = table, linear.weight, linear.bias
        with torch.no_grad():
            self.frozen = functional.linear(table.values, self._weight, self._bias)

    def of_units(self, relative: Relative, address: Address, packing: Packing) -> Tensor | None:
        """[units, 2A, out] with what adapters make of the table and of the map; None where they make nothing of either."""
        tables = self._table.own(packing, relative)
        if tables is None and address not in relative.programs:
            return None
        if tables is None:
            tables, mapped = self._table.values.repeat(relative.units, 1), self.frozen.repeat(relative.units, 1)
        else:
            mapped = functional.linear(tables, self._weight, self._bias)
        return own_maps(relative, address, tables, mapped, self._weight).view(relative.units, relative.length, -1)


def position_scores(
    q: Tensor, k: Tensor, group: LengthGroup, places: Places, keys: Table | None, queries: Table | None
) -> Tensor:
    """Position terms [rows, heads, length, length] of q, k [rows, length, heads, width], unscaled (equation 4)."""
    index = places.index.expand(q.shape[0], q.shape[2], -1, -1)
    scores = q.new_zeros(index.shape)
    if keys is not None:
        scores = scores + (q.transpose(1, 2) @ keys.of(group, places)).gather(-1, index)
    if queries is not None:
        back = index.transpose(-1, -2)  # by key, then query
        scores = scores + (k.transpose(1, 2) @ queries.of(group, places)).gather(-1, back).transpose(-1, -2)
    return scores


def install(model: nn.Module, modules: Sequence[nn.Module], surroundings: Surroundings) -> None:
    """Replace the attention modules, by layer, and what the encoder builds for them over all tokens of a pass.

    Raises `UnknownArchitecture` if the model's encoder is not one with relative positions.
    """
    encoder: Any = next((m for m in model.modules() if hasattr(m, "get_rel_embedding")), None)
    if encoder is None:
        raise UnknownArchitecture("the model has no encoder with a table of relative positions")
    first: Any = modules[0]
    table = None
    if first.relative_attention and first.pos_att_type:
        distances = Distances(first.position_buckets, first.max_relative_positions)
        with torch.no_grad():
            bare = encoder.rel_embeddings.weight.detach().to(first.query_proj.weight.dtype)
            norm = norm_of(encoder.LayerNorm) if "layer_norm" in encoder.norm_rel_ebd else None
            table = PositionTable(bare, norm, distances)
    encoder.get_rel_embedding = encoder.get_rel_pos = _nothing
    encoder.get_attention_mask = _as_it_is
    for layer, module in enumerate(modules):
        module.forward = PackedDisentangled(module, layer, table, surroundings).forward


def _nothing(*args: Any, **kwargs: Any) -> None:
    return None


def _as_it_is(attention_mask: Tensor) -> Tensor:
    return attention_mask
