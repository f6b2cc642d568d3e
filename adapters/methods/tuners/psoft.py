"""PSOFT, as PEFT has it: the map's principal subspace is turned.

    psoft_init: delta = U S (R - I) V^T        pissa_init: delta = U S^(1/2) (R - I) S^(1/2) V^T        U S V^T ~ W

R = diag(b) Q diag(a) [r, r]: Q is (I + K)(I - K)^-1, with K stored above its diagonal, or its series of some terms (as
`oft`; |K| then bounded by `eps` where that is above zero); or, not `orthogonal`, Q is stored itself. Scalings cancel.
The decomposition is exact, or that of Halko et al. 2011 (`sampled`), whose start a seed draws.
"""

import torch
from torch import Tensor

from adapters.errors import Misfit
from adapters.methods.base import BaseMap, Shapes
from adapters.methods.tuners.forms import product
from adapters.methods.tuners.oft import series, skew_of
from adapters.methods.tuners.spectrum import leading
from adapters.methods.tuners.tuner import COUNT, FLAG, NUMBER, Held, Said, Tuner, Widths, one_of, seed, whole
from adapters.weights import Folded


def _shapes(said: Said, width: Widths) -> Shapes:
    rank = said["rank"]
    if rank > min(width):
        raise Misfit([f"the rank {rank} is more than a matrix of {width[1]} x {width[0]} has"])
    found: Shapes = {"weight": (rank * (rank - 1) // 2,) if said["orthogonal"] else (rank, rank)}
    return found | {f"vector_{side}": (rank,) for side in "ab" if said[f"scales_{side}"]}


def _change(said: Said, held: Held, frozen: BaseMap) -> Folded:
    rank = said["rank"]
    if not said["sampled"]:
        left, values, right = torch.linalg.svd(frozen.weight, full_matrices=False)
        left, values, right = left[:, :rank], values[:rank], right[:rank]
    else:
        left, values, right = leading(frozen.weight, rank, said["iterations"], said["seed"])
    turn = _turn(said, held) - torch.eye(rank).to(values)
    if said["start"] == "pissa_init":
        return product(turn @ (values.sqrt()[:, None] * right), left * values.sqrt())
    return product(turn @ right, left * values)


def _turn(said: Said, held: Held) -> Tensor:
    turn = held["weight"]
    if said["orthogonal"]:
        skew, eye = skew_of(turn[None], said["rank"])[0], torch.eye(said["rank"]).to(turn)
        if said["terms"]:
            length = skew.norm()
            if said["eps"] > 0 and length > said["eps"]:
                skew = skew * (said["eps"] / length)
            turn = series(skew, said["terms"])
        else:
            turn = torch.linalg.solve(eye - skew, eye + skew, left=False)
    if said["scales_b"]:
        turn = held["vector_b"][:, None] * turn
    return turn * held["vector_a"] if said["scales_a"] else turn


PSOFT = Tuner(
    "psoft",
    {
        "rank": COUNT,
        "start": one_of("psoft_init", "pissa_init"),
        "sampled": FLAG,
        "iterations": whole,
        "seed": seed,
        "orthogonal": FLAG,
        "terms": whole,
        "eps": NUMBER,
        "scales_a": FLAG,
        "scales_b": FLAG,
    },
    _shapes,
    _change,
)
