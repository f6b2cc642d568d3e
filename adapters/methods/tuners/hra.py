"""HRA: Yuan et al. 2024 (arXiv:2405.17484): a chain of Householder reflections turns what the map reads.

    y = W H_1 ... H_r x + b        H_i = I - 2 u_i u_i^T        u_i: the columns of u [in, r], of length one

A chain of r reflections is the identity less a matrix of rank r, so that the change is of rank r as well:
H_1 ... H_r - I = -2 V U^T with v_i = H_1 ... H_(i-1) u_i. With `orthogonal` the columns are made orthogonal first.
"""

import torch
from torch import Tensor

from adapters.methods.base import BaseMap, Shapes
from adapters.methods.lora import TURNED
from adapters.methods.tuners.forms import product
from adapters.methods.tuners.tuner import COUNT, FLAG, Held, Said, Tuner, Widths
from adapters.weights import Folded


def _shapes(said: Said, width: Widths) -> Shapes:
    return {"u": (width[0], said["rank"])}


def _change(said: Said, held: Held, frozen: BaseMap) -> Folded:
    columns: list[Tensor] = []
    chained: list[Tensor] = []
    for column in held["u"].unbind(1):
        u = column
        if said["orthogonal"]:
            for other in columns:
                u = u - (other @ u) * other
        u = u / u.norm()
        v = u
        for other, before in zip(columns, chained, strict=True):
            v = v - 2 * (other @ u) * before
        columns.append(u)
        chained.append(v)
    return product(torch.stack(columns), -2 * frozen.weight @ torch.stack(chained, dim=1), TURNED)


HRA = Tuner("hra", {"rank": COUNT, "orthogonal": FLAG}, _shapes, _change)
