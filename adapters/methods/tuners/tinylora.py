"""TinyLoRA (arXiv:2602.04118): a few numbers, which groups of maps share, mix random turns of a map's leading directions.

    delta = B (sum_i v_i P_i) A        A [r, in], B [out, r], P [u, r, r], v [u] of the map's group

A and B are stored, P may be; where it is not, a seed draws it.
"""

import torch

from adapters.methods.base import BaseMap, Shapes
from adapters.methods.tuners.forms import product
from adapters.methods.tuners.tuner import COUNT, FLAG, Held, Said, Tuner, Widths, seed, whole
from adapters.weights import Folded


def _shapes(said: Said, width: Widths) -> Shapes:
    (wide, out), rank = width, said["rank"]
    found: Shapes = {"A": (rank, wide), "B": (out, rank)}
    return found | ({"P": (said["turns"], rank, rank)} if said["stored"] else {})


def _kin(said: Said, width: Widths) -> Shapes:
    return {f"v.{said['group']}": (said["turns"],)}


def _change(said: Said, held: Held, frozen: BaseMap) -> Folded:
    rank, own = said["rank"], held[f"v.{said['group']}"]
    if said["stored"]:
        turns = held["P"]
    else:
        generator = torch.Generator().manual_seed(said["seed"])
        turns = torch.normal(0.0, rank**-0.5, (said["turns"], rank, rank), generator=generator)
    return product(torch.einsum("i,ijk->jk", own, turns.to(own)) @ held["A"], held["B"])


TINYLORA = Tuner(
    "tinylora",
    {"rank": COUNT, "turns": COUNT, "group": whole, "stored": FLAG, "seed": seed},
    _shapes,
    _change,
    kin_at=_kin,
)
