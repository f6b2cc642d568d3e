"""VeRA as PEFT stores it: Kopiczko et al. 2024 (arXiv:2310.11454): random matrices that all sites share, scaled by vectors.

    delta = diag(b) B diag(d) A x        A [r, in], B [out, r], d [r], b [out]

A and B have the largest widths among the sites, which take what they need of them. Where they are not `stored`, a seed
draws them: uniform, bounded by the square root of six over the columns.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from adapters.methods.base import BaseMap, Shapes
from adapters.methods.tuners.forms import product
from adapters.methods.tuners.tuner import COUNT, FLAG, Held, Said, Tuner, Widths, seed
from adapters.weights import Folded

Sizes = Callable[[Said, Widths], Shapes]
Share = Callable[[Said, Held, Widths], Held]


def _shapes(said: Said, width: Widths) -> Shapes:
    return {"lambda_d": (said["rank"],), "lambda_b": (width[1],)}


def _sizes(said: Said, width: Widths) -> Shapes:
    return {"A": (said["rank"], width[0]), "B": (width[1], said["rank"])}


def stored_or_drawn(sizes: Sizes) -> tuple[Sizes, Share]:
    """A tuner's `shared_at` and `share`, of matrices of these sizes that are stored, or drawn by the seed."""

    def shared(said: Said, width: Widths) -> Shapes:
        return sizes(said, width) if said["stored"] else {}

    def share(said: Said, held: Held, width: Widths) -> Held:
        return held if said["stored"] else drawn_matrices(said["seed"], sizes(said, width))

    return shared, share


def drawn_matrices(seed: int, sizes: Shapes) -> dict[str, Tensor]:
    """PEFT's random matrices, one after another out of one generator."""
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.empty(shape).uniform_(-math.sqrt(6 / shape[1]), math.sqrt(6 / shape[1]), generator=generator)
        for name, shape in sizes.items()
    }


def _change(said: Said, held: Held, frozen: BaseMap) -> Folded:
    out, wide = frozen.weight.shape
    return product(held["lambda_d"][:, None] * held["A"][:, :wide], held["lambda_b"][:, None] * held["B"][:out])


VERA_VECTORS = Tuner(
    "vera_vectors", {"rank": COUNT, "stored": FLAG, "seed": seed}, _shapes, _change, *stored_or_drawn(_sizes)
)
