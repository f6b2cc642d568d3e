"""OFT: Qiu et al. 2023 (arXiv:2306.07280): block rotations turn what the map reads.

    y = W R^T x + b        R = diag of blocks, of which `weight` [blocks, n (n - 1) / 2] holds K above the diagonal

exact:   R = (I - K)(I + K)^-1
neumann: R = I + 2 K + 2 K^2 + ... + K^(terms - 1), the series of the same, cut off
`shared`: one block for all. `eps` above zero bounds |K| to eps / sqrt(stored blocks) (COFT).
"""

import torch
from torch import Tensor

from adapters.methods.base import BaseMap, Shapes
from adapters.methods.lora import TURNED
from adapters.methods.tuners.forms import full
from adapters.methods.tuners.tuner import COUNT, FLAG, NUMBER, Held, Said, Tuner, Widths, divided, whole
from adapters.weights import Folded


def _shapes(said: Said, width: Widths) -> Shapes:
    block = said["block"]
    blocks = divided("the block", width[0], block)
    return {"weight": (1 if said["shared"] else blocks, block * (block - 1) // 2)}


def _change(said: Said, held: Held, frozen: BaseMap) -> Folded:
    skew, size = skew_of(held["weight"], said["block"]), said["block"]
    if said["eps"] > 0:
        bound = said["eps"] / len(skew) ** 0.5
        length = skew.flatten(1).norm(dim=1)[:, None, None]
        skew = torch.where(length <= bound, skew, bound * skew / length)
    eye = torch.eye(size).to(skew)
    turn = series(skew, said["terms"]) if said["terms"] else torch.linalg.solve(eye + skew, eye - skew, left=False)
    out, wide = frozen.weight.shape
    columns = frozen.weight.view(out, wide // size, size).transpose(0, 1)
    return full(((columns @ (turn - eye).transpose(1, 2)).transpose(0, 1)).reshape(out, wide), TURNED)


def skew_of(packed: Tensor, size: int) -> Tensor:
    """K [blocks, n, n] from what lies above its diagonal, [blocks, n (n - 1) / 2]."""
    rows, columns = torch.triu_indices(size, size, 1)
    upper = packed.new_zeros(len(packed), size, size)
    upper[:, rows, columns] = packed
    return upper - upper.transpose(1, 2)


def series(skew: Tensor, terms: int) -> Tensor:
    """I + 2 K + 2 K^2 ...: PEFT's cut; two terms are I + 2 K; three have the same powers as four."""
    total = torch.eye(skew.shape[-1]).to(skew).expand_as(skew)
    if terms > 1:
        total = total + 2 * skew
    if terms > 2:
        power = skew @ skew
        total = total + 2 * power
        for _ in range(3, terms - 1):
            power = power @ skew
            total = total + 2 * power
        total = total + power @ skew
    return total


OFT = Tuner("oft", {"block": COUNT, "shared": FLAG, "terms": whole, "eps": NUMBER}, _shapes, _change)
