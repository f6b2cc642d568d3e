"""BOFT: Liu et al. 2024 (arXiv:2311.06243): butterfly factors of block rotations turn what the map reads.

    y = s * (W R^T x) + b        R = P_m D_m P_m^T ... P_1 D_1 P_1^T        D_i = diag of blocks (I - K)(I + K)^-1

K is half of what is stored less its transpose; s [out, 1] is learned.
"""

import torch
from torch import Tensor

from adapters.errors import Misfit
from adapters.methods.base import BaseMap, Shapes
from adapters.methods.lora import TURNED
from adapters.methods.tuners.forms import full
from adapters.methods.tuners.tuner import COUNT, Held, Said, Tuner, Widths, divided
from adapters.weights import Folded


def _shapes(said: Said, width: Widths) -> Shapes:
    (wide, out), block, factors = width, said["block"], said["factors"]
    blocks = divided("the block", wide, block)
    if factors > 1 and (block % 2 or blocks % (1 << factors - 1)):
        raise Misfit([f"{factors} butterfly factors need an even block, and a number of blocks that they divide"])
    return {"R": (factors, blocks, block, block), "s": (out, 1)}


def _change(said: Said, held: Held, frozen: BaseMap) -> Folded:
    stored = held["R"]
    skew = 0.5 * (stored - stored.transpose(-1, -2))
    eye = torch.eye(said["block"]).to(skew)
    blocks = torch.linalg.solve(eye + skew, eye - skew, left=False)
    turn = torch.eye(frozen.weight.shape[1]).to(skew)
    for factor, own in enumerate(blocks):
        order = _order(said, frozen.weight.shape[1], factor)
        whole: Tensor = torch.block_diag(*own)  # type: ignore[no-untyped-call]
        turn = whole[order][:, order] @ turn
    return full(held["s"] * (frozen.weight @ turn.T) - frozen.weight, TURNED)


def _order(said: Said, wide: int, factor: int) -> Tensor:
    """The channels in a factor's order, [in]: within groups of 2^factor blocks the even half blocks, then the odd ones."""
    places = torch.arange(wide)
    if said["factors"] == 1:
        return places
    halves = places.view(-1, 2 << factor, said["block"] // 2)
    return torch.cat([halves[:, ::2], halves[:, 1::2]], dim=1).reshape(-1)


BOFT = Tuner("boft", {"block": COUNT, "factors": COUNT}, _shapes, _change)
