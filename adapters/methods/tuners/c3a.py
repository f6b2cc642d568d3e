"""C3A: Chen et al. 2024 (arXiv:2407.19342): a matrix of circular convolutions.

delta[m b + p, n b + q] = kernel[m, n, (q - p) mod b] / in        kernel [out / b, in / b, b]
"""

import torch

from adapters.methods.base import BaseMap, Shapes
from adapters.methods.tuners.forms import full
from adapters.methods.tuners.tuner import COUNT, Held, Said, Tuner, Widths, divided
from adapters.weights import Folded


def _shapes(said: Said, width: Widths) -> Shapes:
    block = said["block"]
    return {"kernel": (divided("the block", width[1], block), divided("the block", width[0], block), block)}


def _change(said: Said, held: Held, frozen: BaseMap) -> Folded:
    places = torch.arange(said["block"])
    blocks = held["kernel"][:, :, (places[None] - places[:, None]) % said["block"]]  # [m, n, p, q]
    out, wide = frozen.weight.shape
    return full(blocks.transpose(1, 2).reshape(out, wide) / wide)


C3A = Tuner("c3a", {"block": COUNT}, _shapes, _change)
