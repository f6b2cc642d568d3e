"""Poly: Ponti et al. 2023 (arXiv:2202.13914), and multi-head routing, Caccia et al. 2023 (arXiv:2211.03831), of one task.

    delta = B^T A^T / r        A, B: of each split of the channels, the mean of its skills, weighted by sigmoid(logits)

A [splits, skills, in / splits, r], B [splits, skills, r, out / splits], logits [1, splits * skills]. A folder of several
tasks would need to be told one with every request.
"""

import torch

from adapters.methods.base import BaseMap, Shapes
from adapters.methods.tuners.forms import product
from adapters.methods.tuners.tuner import COUNT, Held, Said, Tuner, Widths, divided
from adapters.weights import Folded

EPSILON = 1e-12


def _shapes(said: Said, width: Widths) -> Shapes:
    (wide, out), rank, splits, skills = width, said["rank"], said["splits"], said["skills"]
    return {
        "A": (splits, skills, divided("the number of splits", wide, splits), rank),
        "B": (splits, skills, rank, divided("the number of splits", out, splits)),
        "logits": (1, splits * skills),
    }


def _change(said: Said, held: Held, frozen: BaseMap) -> Folded:
    (out, wide), rank = frozen.weight.shape, said["rank"]
    shares = torch.sigmoid(held["logits"]).view(said["splits"], said["skills"])
    shares = shares / (shares.sum(dim=1, keepdim=True) + EPSILON)
    down = torch.einsum("qs,qsdr->qdr", shares, held["A"]).reshape(wide, rank).T
    up = torch.einsum("qs,qsrd->qdr", shares, held["B"]).reshape(out, rank)
    return product(down, up / rank)


POLY = Tuner("poly", {"rank": COUNT, "splits": COUNT, "skills": COUNT}, _shapes, _change)
