"""The bias of distances that T5 adds to the scores of its own attention (Raffel et al. 2020, arXiv:1910.10683, section 2.1).

score(i, j) = q_i k_j + B[d(j - i)]        B [buckets, heads], one table for all layers of a stack

A prefix of AdapterHub's stands in the places from 0 on, and the row's keys behind it, while its queries stay where they
were; a prefix of PEFT's is a past, behind which queries stand as well, as they do behind tokens that have been. Where AdapterHub finds another number of keys in a
layer than in the first one, it goes on without a bias, in that layer and in all behind it. Rows whose adapters have
distances of their own are units with a table each (`batch.plan.Relative`).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from adapters.architectures.sites import Address
from adapters.batch.attention import Bias, LengthGroup
from adapters.batch.distances import own_tables
from adapters.batch.plan import BatchPlan


@dataclass(frozen=True)
class Buckets:
    """Which bucket a distance has: half of those of a direction have one distance each, the others grow up to `farthest`."""

    count: int
    farthest: int
    both_ways: bool

    def of(self, distance: Tensor) -> Tensor:
        """Buckets of distances (key less query), in float32 throughout, as models were trained with."""
        count = self.count // 2 if self.both_ways else self.count
        ahead = (distance > 0).long() * count if self.both_ways else torch.zeros_like(distance)
        size = distance.abs() if self.both_ways else (-distance).clamp(min=0)
        exact = count // 2
        far = torch.log(size.float() / exact) / math.log(self.farthest / exact) * (count - exact)
        grown = (exact + far.clamp(min=0).long()).clamp(max=count - 1)
        return ahead + torch.where(size < exact, size, grown)


class Distances:
    """One stack's table [buckets, heads], whose module it is taken from."""

    def __init__(self, module: Any, *, causal: bool) -> None:
        self._table = module.relative_attention_bias
        self._causal = causal
        self.address = Address(None, "decoder_distances" if causal else "distances")
        self._buckets = Buckets(
            module.relative_attention_num_buckets, module.relative_attention_max_distance, both_ways=not causal
        )

    @property
    def table(self) -> Tensor:
        """The frozen table [buckets, heads]."""
        weight: Tensor = self._table.weight.detach()
        return weight

    def scores(self, weight: Tensor, length: int, more: int, *, first: int, biased: bool) -> Tensor:
        """[heads, length, more + length] of queries that stand from `first` on; a causal stack's hides what comes later.

        weight [buckets, heads] is the table of the row.
        """
        keys = torch.arange(more + length, device=weight.device)
        own = torch.arange(length, device=weight.device)[:, None]
        scores = weight.new_zeros(weight.shape[1], length, more + length)
        if biased:
            scores = weight[self._buckets.of(keys - (own + first))].permute(2, 0, 1)
        return scores.masked_fill(keys > own + more, float("-inf")) if self._causal else scores


@dataclass(eq=False)
class RunningBias:
    """The biases of one stack in one pass: made once for all layers; rows lose theirs as AdapterHub's do."""

    distances: Distances
    plan: BatchPlan
    _counts: dict[int, int] | None = None
    _lost: set[int] = field(default_factory=set)
    _made: dict[tuple[int, int, int, bool, int], Tensor] = field(default_factory=dict)
    _tables: Tensor | None = None

    def at_layer(self, prefixes: Mapping[int, Tensor]) -> Bias:
        """The bias of the next layer, whose rows see these prefixes."""
        counts = {row: prefix.shape[1] for row, prefix in prefixes.items()}
        if self._counts is None:
            self._counts = counts
        for row in {*counts, *self._counts}:
            if counts.get(row, 0) != self._counts.get(row, 0):
                self._lost.add(row)

        lost = frozenset(self._lost)

        def bias(q: Tensor, k: Tensor, group: LengthGroup) -> Tensor:
            kinds = [(self._first(row, group), row not in lost, self._unit(row)) for row in group.rows]
            made = {kind: self._of(group, *kind).to(q.dtype) for kind in dict.fromkeys(kinds)}
            if len(made) == 1:
                return made[kinds[0]][None]
            return torch.stack([made[kind] for kind in kinds])

        return bias

    def _first(self, index: int, group: LengthGroup) -> int:
        row = self.plan.rows[index]
        if row.insertion is not None and row.insertion.shift > 0 and not row.insertion.count:
            return group.more
        return 0 if row.past is None else row.past.tokens

    def _unit(self, row: int) -> int:
        relative = self.plan.relative
        return 0 if relative is None or self.distances.address not in relative.programs else relative.unit_of_row[row]

    def _of(self, group: LengthGroup, first: int, biased: bool, unit: int) -> Tensor:
        key = (group.length, group.more, first, biased, unit)
        if key not in self._made:
            table = self._table(unit)
            self._made[key] = self.distances.scores(table, group.length, group.more, first=first, biased=biased)
        return self._made[key]

    def _table(self, unit: int) -> Tensor:
        relative = self.plan.relative
        if not unit or relative is None:
            return self.distances.table
        if self._tables is None:
            own = own_tables(relative, self.distances.address, self.distances.table)
            self._tables = own.view(relative.units, relative.length, -1)
        return self._tables[unit]
