"""Poly: Ponti et al. 2023 (arXiv:2202.13914), and multi-head routing, Caccia et al. 2023 (arXiv:2211.03831), for a task.

    delta = B^T A^T / r        A, B: of each split of the channels, the mean of its skills, weighted by sigmoid(logits)

A [splits, skills, in / splits, r], B [splits, skills, r, out / splits], logits [tasks, splits * skills]; those of
other tasks stay in the package, so that it can be written again, and take no room on the device.
"""

from collections.abc import Mapping
from typing import Any

import torch

from adapters.errors import Misfit
from adapters.methods.base import BaseMap, Shapes
from adapters.methods.settings import Settings, count_in
from adapters.methods.tuners.forms import product
from adapters.methods.tuners.tuner import COUNT, Held, Said, Tuner, Widths, divided, whole
from adapters.weights import Folded

EPSILON = 1e-12


def _tasks(settings: Settings, where: str, held: Mapping[str, Any], key: str) -> int:
    """One where it is not said."""
    return count_in(settings, where, {key: 1, **held}, key)


def _shapes(said: Said, width: Widths) -> Shapes:
    (wide, out), rank, splits, skills = width, said["rank"], said["splits"], said["skills"]
    if said["task"] >= said["tasks"]:
        raise Misfit([f"task must be below the number of tasks, {said['tasks']}, not {said['task']}"])
    return {
        "A": (splits, skills, divided("the number of splits", wide, splits), rank),
        "B": (splits, skills, rank, divided("the number of splits", out, splits)),
        "logits": (said["tasks"], splits * skills),
    }


def _change(said: Said, held: Held, frozen: BaseMap) -> Folded:
    (out, wide), rank = frozen.weight.shape, said["rank"]
    shares = torch.sigmoid(held["logits"][said["task"]]).view(said["splits"], said["skills"])
    shares = shares / (shares.sum(dim=1, keepdim=True) + EPSILON)
    down = torch.einsum("qs,qsdr->qdr", shares, held["A"]).reshape(wide, rank).T
    up = torch.einsum("qs,qsrd->qdr", shares, held["B"]).reshape(out, rank)
    return product(down, up / rank)


_SETTINGS = {"rank": COUNT, "splits": COUNT, "skills": COUNT, "tasks": _tasks, "task": whole}
POLY = Tuner("poly", _SETTINGS, _shapes, _change)
