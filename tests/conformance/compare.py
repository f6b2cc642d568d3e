"""Compare an answer with the reference, at the positions that count."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from adapters.backbone import Want
from adapters.weights import Insertion
from tests.conformance.cases import full_mask
from tests.conformance.references import Expected


@dataclass(frozen=True)
class Verdict:
    """How far one output of one row is from its reference; `reason` is empty where it is within the tolerance.

    `over` is the largest error beyond the relative tolerance, to be held against the absolute one; infinite where the
    outputs can not be compared at all. `theirs`: the rounding of the source library where the case tells it.
    `rounding` is what was added to the absolute tolerance (see `rounding`).
    """

    name: str
    want: Want
    max_error: float
    over: float
    reason: str
    theirs: float = 0.0
    rounding: float = 0.0

    def with_rounding(self, atol: float, ours: float) -> "Verdict":
        """The same verdict, passed if the float32 rounding of this very row, ours and theirs, explains what is over."""
        rounding = ours + self.theirs
        return replace(self, reason="", rounding=rounding) if self.over <= atol + rounding else self


def compare(
    answer: Tensor, expected: Expected, mask: Tensor, insertion: Insertion | None, tolerance: tuple[float, float]
) -> Verdict:
    """Judge one output of one row.

    `answer`: what the row gave, over the unpadded row, with or without the tokens that prompt tuning inserted. `mask`
    [positions] marks the real tokens of the padded reference.
    """
    got = expected.taken(answer).detach().float().cpu()
    want = expected.values.float()
    if want.dim() == 2:
        inserted = want.shape[0] - mask.shape[0]
        count = insertion.count if insertion else 0
        if inserted not in (0, count):
            return _apart(expected, f"{inserted} inserted tokens expected, the adapter has {count}")
        at = insertion.at if insertion else 0
        if inserted and got.shape[0] == int(mask.sum()):
            want = torch.cat([want[:at], want[at + inserted :]])[mask]
        elif inserted:
            want = want[full_mask(mask, inserted, at)]
        else:
            want = want[mask]
    if got.shape != want.shape:
        return _apart(expected, f"shape {tuple(got.shape)} instead of {tuple(want.shape)}")
    if not bool(torch.isfinite(got).all()):
        return _apart(expected, "not finite")
    error = (got - want).abs()
    atol, rtol = tolerance
    largest, over = float(error.max()), float((error - rtol * want.abs()).max())
    reason = "" if over <= atol else f"{expected.name}: off by {largest:.3g}, atol {atol:g}, rtol {rtol:g}"
    return Verdict(expected.name, expected.want, largest, over, reason, expected.rounding)


def _apart(expected: Expected, why: str) -> Verdict:
    return Verdict(expected.name, expected.want, float("inf"), float("inf"), f"{expected.name}: {why}")


def positions_count(mask: Tensor, *, gated: bool) -> bool:
    """Whether a row can be compared: a gate's mean runs over the padding in the source library."""
    return not gated or bool(mask.all())
