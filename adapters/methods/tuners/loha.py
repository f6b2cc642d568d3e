"""LoHa: Hyeon-Woo et al. 2022 (arXiv:2108.06098, FedPara), LyCORIS: the product, entry by entry, of two of low rank.

    delta = alpha / r * (A_1 B_1) * (A_2 B_2)        A_i [out, r], B_i [r, in]

Its rank is at most r^2: the columns of A_1 times those of A_2, each with each.
"""

import torch

from adapters.methods.base import BaseMap, Shapes
from adapters.methods.tuners.forms import full, product
from adapters.methods.tuners.tuner import COUNT, NUMBER, Held, Said, Tuner, Widths
from adapters.weights import Folded


def _shapes(said: Said, width: Widths) -> Shapes:
    (wide, out), rank = width, said["rank"]
    return {"w1_a": (out, rank), "w1_b": (rank, wide), "w2_a": (out, rank), "w2_b": (rank, wide)}


def _change(said: Said, held: Held, frozen: BaseMap) -> Folded:
    (out, wide), rank = frozen.weight.shape, said["rank"]
    scaling = said["alpha"] / rank
    if rank * rank * (out + wide) >= out * wide:
        return full((held["w1_a"] @ held["w1_b"]) * (held["w2_a"] @ held["w2_b"]) * scaling)
    up = torch.einsum("oi,oj->oij", held["w1_a"], held["w2_a"]).reshape(out, rank * rank)
    down = torch.einsum("ix,jx->ijx", held["w1_b"], held["w2_b"]).reshape(rank * rank, wide)
    return product(down, up * scaling)


LOHA = Tuner("loha", {"rank": COUNT, "alpha": NUMBER}, _shapes, _change)
