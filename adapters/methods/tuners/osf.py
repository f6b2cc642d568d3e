"""OSF: Nayak et al. 2025 (arXiv:2504.07097): the lesser singular directions of the map are replaced, the others kept.

    delta = U diag(S) V - U_0 diag(S_0) V_0        U [out, r], S [r], V [r, in]

U_0, S_0 and V_0 are the last r of the frozen map's singular vectors and values.
"""

import torch

from adapters.errors import Misfit
from adapters.methods.base import BaseMap, Shapes
from adapters.methods.tuners.forms import product
from adapters.methods.tuners.tuner import Held, Said, Tuner, Widths, whole
from adapters.weights import Folded


def _shapes(said: Said, width: Widths) -> Shapes:
    (wide, out), rank = width, said["rank"]
    if rank > min(width):
        raise Misfit([f"{rank} directions are more than a matrix of {out} x {wide} has"])
    return {"U": (out, rank), "S": (rank,), "V": (rank, wide)} if rank else {}


def _change(said: Said, held: Held, frozen: BaseMap) -> Folded:
    (out, wide), rank = frozen.weight.shape, said["rank"]
    if not rank:
        return product(frozen.weight.new_zeros(1, wide), frozen.weight.new_zeros(out, 1))
    left, values, right = torch.linalg.svd(frozen.weight, full_matrices=False)
    down = torch.cat([held["V"], right[-rank:]])
    return product(down, torch.cat([held["U"] * held["S"], -left[:, -rank:] * values[-rank:]], dim=1))


OSF = Tuner("osf", {"rank": whole}, _shapes, _change)
