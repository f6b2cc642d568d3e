"""VeRA as PEFT stores it: Kopiczko et al. 2024 (arXiv:2310.11454): random matrices that all sites share, scaled by vectors.

    delta = diag(b) B diag(d) A x        A [r, in], B [out, r], d [r], b [out]

A and B have the largest widths among the sites, which take what they need of them. Where they are not `stored`, a seed
draws them: uniform, bounded by the square root of six over the columns.
"""

import math

import torch
from torch import Tensor

from adapters.methods.base import BaseMap, Shapes
from adapters.methods.tuners.forms import product
from adapters.methods.tuners.tuner import COUNT, FLAG, Held, Said, Tuner, Widths, seed
from adapters.weights import Folded


def _shapes(said: Said, width: Widths) -> Shapes:
    return {"lambda_d": (said["rank"],), "lambda_b": (width[1],)}


def _sizes(said: Said, width: Widths) -> Shapes:
    return {"A": (said["rank"], width[0]), "B": (width[1], said["rank"])}


def _shared(said: Said, width: Widths) -> Shapes:
    return _sizes(said, width) if said["stored"] else {}


def _share(said: Said, shared: Held, width: Widths) -> Held:
    if said["stored"]:
        return shared
    return drawn_matrices(said["seed"], _sizes(said, width))


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


VERA_VECTORS = Tuner("vera_vectors", {"rank": COUNT, "stored": FLAG, "seed": seed}, _shapes, _change, _shared, _share)
