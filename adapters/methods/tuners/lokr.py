"""LoKr: Edalati et al. 2022 (arXiv:2212.10650), LyCORIS: a Kronecker product.

    delta = alpha / r * kron(W_1, W_2)        W_1 [a, c], W_2 [b, d], with a b = out and c d = in

A factor is stored whole where r is no less than half of its larger side (W_1: also unless `both`), and otherwise as a
product of rank r. Two products make a product of rank r^2; W_1 whole and W_2 a product one of rank c r.
"""

from collections.abc import Mapping
from typing import Any

import torch

from adapters.methods.base import BaseMap, Shapes
from adapters.methods.settings import MAX_COUNT, Settings
from adapters.methods.tuners.forms import full, product
from adapters.methods.tuners.tuner import COUNT, FLAG, NUMBER, Held, Kind, Said, Tuner, Widths
from adapters.weights import Folded


def _shapes(said: Said, width: Widths) -> Shapes:
    (wide, out), rank = width, said["rank"]
    (a, b), (c, d) = factors(out, said["factor"]), factors(wide, said["factor"])
    first: Shapes = {"w1_a": (a, rank), "w1_b": (rank, c)}
    second: Shapes = {"w2_a": (b, rank), "w2_b": (rank, d)}
    if not said["both"] or 2 * rank >= max(a, c):
        first = {"w1": (a, c)}
    if 2 * rank >= max(b, d):
        second = {"w2": (b, d)}
    return first | second


def _change(said: Said, held: Held, frozen: BaseMap) -> Folded:
    scaling = said["alpha"] / said["rank"]
    if "w2" in held:
        first = held["w1"] if "w1" in held else held["w1_a"] @ held["w1_b"]
        return full(torch.kron(first, held["w2"].contiguous()) * scaling)
    left, right = (held["w1"], torch.eye(held["w1"].shape[1])) if "w1" in held else (held["w1_a"], held["w1_b"])
    return product(torch.kron(right.to(left), held["w2_b"]), torch.kron(left, held["w2_a"]) * scaling)


def factors(width: int, factor: int) -> tuple[int, int]:
    """(m, n) with m n = width and m <= n: as near to each other as m <= factor allows (-1: any), or m = factor itself.

    That is LyCORIS' rule: `factor` where it divides the width, whatever the order.
    """
    if factor > 0 and width % factor == 0:
        return factor, width // factor
    most = width if factor == -1 else factor
    small = [m for m in range(1, int(width**0.5) + 1) if width % m == 0 and m <= most]
    return (small[-1], width // small[-1]) if small else (1, width)


def _factor(settings: Settings, where: str, held: Mapping[str, Any], key: str) -> int:
    value = held.get(key)
    if type(value) is not int or not -1 <= value <= MAX_COUNT:
        settings.wrong(f"{where}.{key} must be -1, or an integer from 0 on, not {value!r}")
        return -1
    return value


_FACTOR: Kind = _factor
LOKR = Tuner("lokr", {"rank": COUNT, "alpha": NUMBER, "both": FLAG, "factor": _FACTOR}, _shapes, _change)
