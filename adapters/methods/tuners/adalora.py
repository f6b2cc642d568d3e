"""AdaLoRA: Zhang et al. 2023 (arXiv:2303.10512): LoRA as a singular value decomposition whose rank was pruned.

    delta = alpha / (init_rank + 1e-5) * B diag(E) A x        A [r, in], E [r, 1], B [out, r]

PEFT divides by the rank that it began with, whatever is left of it; an alpha of zero or below stands for the rank.
A module may have no rank left at all.
"""

from adapters.methods.base import BaseMap, Shapes
from adapters.methods.tuners.forms import product
from adapters.methods.tuners.tuner import COUNT, NUMBER, Held, Said, Tuner, Widths, whole
from adapters.weights import Folded

EPSILON = 1e-5


def _shapes(said: Said, width: Widths) -> Shapes:
    (wide, out), rank = width, said["rank"]
    if not rank:
        return {}
    return {"A": (rank, wide), "E": (rank, 1), "B": (out, rank)}


def _change(said: Said, held: Held, frozen: BaseMap) -> Folded:
    if not said["rank"]:
        out, wide = frozen.weight.shape
        return product(frozen.weight.new_zeros(1, wide), frozen.weight.new_zeros(out, 1))
    alpha = said["alpha"] if said["alpha"] > 0 else float(said["rank"])
    return product(held["A"] * held["E"], held["B"] * (alpha / (said["init_rank"] + EPSILON)))


ADALORA = Tuner("adalora", {"rank": whole, "init_rank": COUNT, "alpha": NUMBER}, _shapes, _change)
