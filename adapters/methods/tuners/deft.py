"""DEFT, as PEFT has it: a subspace of the map's outputs is taken out, and something else put in.

    W' = (I - Q P_+^T) W + scaling * Q R        P [out, r], R [r, in]

Q and P_+ are P itself and relu(P) (`relu`), or both P made orthogonal (`qr`). Without R (PaRa) nothing is put in.
The change is Q (scaling R - P_+^T W), and so of rank r.
"""

import torch

from adapters.methods.base import BaseMap, Shapes
from adapters.methods.tuners.forms import product
from adapters.methods.tuners.tuner import COUNT, FLAG, NUMBER, Held, Said, Tuner, Widths, one_of
from adapters.weights import Folded


def _shapes(said: Said, width: Widths) -> Shapes:
    (wide, out), rank = width, said["rank"]
    found: Shapes = {"P": (out, rank)}
    return found if said["removes_only"] else found | {"R": (rank, wide)}


def _change(said: Said, held: Held, frozen: BaseMap) -> Folded:
    left, right = held["P"], held["P"].relu()
    if said["projection"] == "qr":
        left = right = torch.linalg.qr(held["P"]).Q
    down = -right.T @ frozen.weight
    return product(down if said["removes_only"] else down + said["scaling"] * held["R"], left)


DEFT = Tuner(
    "deft",
    {"rank": COUNT, "scaling": NUMBER, "projection": one_of("relu", "qr"), "removes_only": FLAG},
    _shapes,
    _change,
)
