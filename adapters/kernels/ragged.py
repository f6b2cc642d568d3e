"""Tokens of S segments under S adapters: the primitives that methods are written in.

A `Ragged` holds the tokens either one after another (`[n, width]`, one GEMM per segment) or padded per segment
(`[S, M, width]`, one batched GEMM over gathered weights). `enter` chooses by cost; elementwise work is the same for
both. Pads repeat a token of their own segment and are dropped on leaving, so no value crosses a segment.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional

from adapters.kernels.arena import Stacked
from adapters.kernels.dense import dense
from adapters.kernels.interface import Kernels
from adapters.kernels.runs import Runs
from adapters.kernels.upload import upload

# Costs in units of one multiply-add of a large fp32 GEMM, fitted on a 2-core CPU with loadtests.micro.mixed.
CALL_COST = 150_000  # one small GEMM called from Python
COPY_COST = 4  # one element of a gathered weight


@dataclass(frozen=True, eq=False)
class Ragged:
    """Tokens under their segments' adapters; `data` is [n, width], or [S, M, width] if `padded`."""

    data: Tensor
    runs: Runs
    padded: bool

    def linear(self, weight: Stacked, bias: Stacked | None) -> "Ragged":
        """W x + b with each segment's own W [out, in] and b [out]."""
        if self.padded:
            matrices = weight.all().transpose(1, 2)
            if bias is None:
                return replace(self, data=torch.bmm(self.data, matrices))
            return replace(self, data=torch.baddbmm(bias.all().unsqueeze(1), self.data, matrices))
        kernels = kernels_for(self.data, self.runs)
        if len(self.runs.lengths) > 1 and kernels is not None:
            out = self.data.new_empty(self.data.shape[0], weight.shape[0])
            starts = None if bias is None else bias.starts
            kernels.linear(self.data, out, self.runs.inner_places, weight.arena, weight.starts, starts)
            return replace(self, data=out)
        if len(self.runs.lengths) == 1:
            held = None if bias is None else bias.one(0)
            return replace(self, data=dense(self.data, weight.one(0), held))
        return replace(self, data=self._loop(weight, bias))

    def scale(self, vector: Stacked) -> "Ragged":
        """x * v with each segment's own v [width] or [1]."""
        return replace(self, data=self.data * self._spread(vector))

    def layer_norm(self, weight: Stacked, bias: Stacked, eps: float) -> "Ragged":
        """Layer normalisation with each segment's own weight and bias [width]."""
        x = functional.layer_norm(self.data, self.data.shape[-1:], eps=eps)
        return replace(self, data=x * self._spread(weight) + self._spread(bias))

    def map(self, function: Callable[[Tensor], Tensor]) -> "Ragged":
        """An elementwise function."""
        return replace(self, data=function(self.data))

    def leave(self) -> Tensor:
        """The tokens one after another, [n, width]."""
        if not self.padded:
            return self.data
        return self.data.reshape(-1, self.data.shape[-1]).index_select(0, self.runs.compact_index)

    def _spread(self, vector: Stacked) -> Tensor:
        return vector.all().unsqueeze(1) if self.padded else spread(vector, self.runs)

    def _loop(self, weight: Stacked, bias: Stacked | None) -> Tensor:
        pieces = torch.split(self.data, list(self.runs.lengths))
        if torch.is_grad_enabled():
            return torch.cat(
                [functional.linear(p, weight.one(i), bias.one(i) if bias else None) for i, p in enumerate(pieces)]
            )
        out = self.data.new_empty(self.data.shape[0], weight.shape[0])
        for i, (piece, target) in enumerate(zip(pieces, torch.split(out, list(self.runs.lengths)), strict=True)):
            if bias is None:
                torch.mm(piece, weight.transposed(i), out=target)
            else:
                torch.addmm(bias.one(i), piece, weight.transposed(i), out=target)
        return out


def enter(x: Tensor, runs: Runs, widths: tuple[tuple[int, int], ...]) -> Ragged:
    """Tokens x [n, width] ready for linear maps of these (in, out) widths, in the cheaper of the two forms."""
    if kernels_for(x, runs) is not None or not gathered_is_cheaper(runs, widths):
        return Ragged(x, runs, padded=False)
    segments = len(runs.lengths)
    data = x.index_select(0, runs.padded_index).view(segments, runs.longest, x.shape[-1])
    return Ragged(data, runs, padded=True)


def kernels_for(x: Tensor, runs: Runs) -> Kernels | None:
    """The kernels that can compute with x: they know its type, and nothing is to be differentiated."""
    if runs.kernels is None or x.dtype not in runs.kernels.dtypes or torch.is_grad_enabled():
        return None
    return runs.kernels


def gathered_is_cheaper(runs: Runs, widths: tuple[tuple[int, int], ...]) -> bool:
    """Whether one batched GEMM over gathered weights costs less than one GEMM per segment."""
    segments = len(runs.lengths)
    if segments == 1:
        return False
    elements = sum(wide * narrow for wide, narrow in widths)
    wasted = segments * runs.longest - runs.count
    return COPY_COST * segments * elements + wasted * elements < CALL_COST * (segments - 1) * len(widths)


def spread(vector: Stacked, runs: Runs) -> Tensor:
    """Each taken token's own vector of its segment's v [width]: [n, width], a view where there is one segment."""
    if len(runs.lengths) == 1:
        return vector.one(0).expand(runs.count, *vector.shape)
    return vector.all().index_select(0, runs.segment_of_token)


def looked_up(matrix: Stacked, index: Tensor, runs: Runs) -> Tensor:
    """Row index[i] of its segment's matrix [rows, width] for every taken token i: [n, width]."""
    pieces = torch.split(index, list(runs.lengths))
    return torch.cat([matrix.one(i).index_select(0, piece) for i, piece in enumerate(pieces)])


def row_mean(x: Tensor, runs: Runs) -> Tensor:
    """Mean over each row's tokens: x [n, width] -> [rows, width]; rows do not touch each other."""
    sums = x.new_zeros(len(runs.rows), x.shape[-1]).index_add(0, runs.row_of_token, x)
    counts = upload(torch.tensor([end - start for start, end in runs.rows], dtype=x.dtype), x.device)
    return sums / counts[:, None]
