"""How far the answers of a contender are from those it has to give: a fast wrong answer is none."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

WITHIN = {torch.float32: 1e-4, torch.bfloat16: 0.05}  # of `apart`, by the type that both compute in


def apart(found: Sequence[Tensor], wanted: Sequence[Tensor]) -> float:
    """The largest distance (Euclidean) of a row's answer from its reference, in mean lengths of all references.

    Infinite for another number of rows, another shape, and values that are not finite.
    """
    if [tuple(one.shape) for one in found] != [tuple(one.shape) for one in wanted]:
        return math.inf
    pairs = [(one.double().flatten(), other.double().flatten()) for one, other in zip(found, wanted, strict=True)]
    mean = sum(float(other.norm()) for _, other in pairs) / len(pairs)
    worst = max(float((one - other).norm()) if bool(torch.isfinite(one).all()) else math.inf for one, other in pairs)
    return worst / mean if worst else 0.0
