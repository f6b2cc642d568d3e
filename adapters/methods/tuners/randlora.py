"""RandLoRA: Albert et al. 2025 (arXiv:2502.00987): a full rank sum of random products, scaled by learned vectors.

    delta = alpha / r * B' A'        A' = lambda[r, m] A[r, 1, least] gamma[m, least],  B' = B[most, m, r]

A and B are random (where they are not `stored`, a seed draws them), and shared by all sites, which take what they need of them. least and most are the smaller and the
larger width of the map; delta is transposed where the map's input is the larger one. PEFT multiplies A', flattened over
(r, m), with B', flattened over (m, r); so does this.
"""

import math

import torch
from torch import Tensor

from adapters.methods.base import BaseMap, Shapes
from adapters.methods.tuners.forms import full
from adapters.methods.tuners.tuner import COUNT, FLAG, NUMBER, Held, Said, Tuner, Widths, one_of, seed
from adapters.weights import Folded


def _bases(said: Said, width: Widths) -> int:
    rank: int = said["rank"]
    return -(-min(width) // rank)


def _shapes(said: Said, width: Widths) -> Shapes:
    bases = _bases(said, width)
    return {"lambda": (said["rank"], bases), "gamma": (bases, min(width))}


def _shared(said: Said, width: Widths) -> Shapes:
    if not said["stored"]:
        return {}
    return {"A": (said["rank"], 1, min(width)), "B": (max(width), _bases(said, width), said["rank"])}


def _share(said: Said, shared: Held, width: Widths) -> Held:
    if said["stored"]:
        return shared
    generator = torch.Generator().manual_seed(said["seed"])
    rank, least, bases = said["rank"], min(width), _bases(said, width)
    if said["random"] == "dense":
        first = _uniform((rank, 1, least), generator)
        second = torch.cat([_uniform((max(width), 1, rank), generator) for _ in range(bases)], dim=1)
    else:
        scarce = math.sqrt(least) if said["random"] == "very_sparse" else 3
        first = _signs((rank, 1, least), scarce, generator)
        second = _signs((max(width), bases, rank), scarce, generator)
    return {"A": (first / first.std()).float(), "B": (second / second.std()).float()}


def _uniform(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """PEFT draws them in half precision: uniform, bounded by the root of the entries in a row."""
    bound = 1 / math.sqrt(shape[1] * shape[2])
    return torch.empty(shape, dtype=torch.bfloat16).uniform_(-bound, bound, generator=generator)


def _signs(shape: tuple[int, ...], scarce: float, generator: torch.Generator) -> Tensor:
    """One and minus one, each with a probability of 1 / (2 scarce), and zeros."""
    drawn, share = torch.rand(shape, generator=generator), 1 / (2 * scarce)
    return (drawn > 1 - share).float() - (drawn < share).float()


def _change(said: Said, held: Held, frozen: BaseMap) -> Folded:
    out, wide = frozen.weight.shape
    least, most, bases = min(out, wide), max(out, wide), _bases(said, (wide, out))
    own = held["lambda"][:, :, None] * held["A"][:, :, :least] * held["gamma"][None]
    delta = held["B"][:most, :bases].flatten(1) @ own.flatten(0, 1) * (said["alpha"] / said["rank"])
    return full(delta if least == wide else delta.T)


RANDLORA = Tuner(
    "randlora",
    {"rank": COUNT, "alpha": NUMBER, "stored": FLAG, "seed": seed, "random": one_of("dense", "sparse", "very_sparse")},
    _shapes,
    _change,
    _shared,
    _share,
)
