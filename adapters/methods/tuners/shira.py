"""SHiRA: Bhardwaj et al. 2024 (arXiv:2406.13175): a sparse change, entry by entry.

    delta[indices[0, i], indices[1, i]] = weight[i]        r (in + out) entries

Places are stored with the values, as numbers of the same type: a package holds no integers.
"""

import torch

from adapters.errors import Misfit
from adapters.methods.base import BaseMap, Shapes
from adapters.methods.tuners.forms import full
from adapters.methods.tuners.tuner import COUNT, Held, Said, Tuner, Widths
from adapters.weights import Folded


def _shapes(said: Said, width: Widths) -> Shapes:
    count = said["rank"] * sum(width)
    if count > width[0] * width[1]:
        raise Misfit([f"{count} entries are more than a matrix of {width[1]} x {width[0]} has"])
    return {"indices": (2, count), "weight": (count,)}


def _change(said: Said, held: Held, frozen: BaseMap) -> Folded:
    rows, columns = held["indices"].long()
    out, wide = frozen.weight.shape
    if rows.min() < 0 or columns.min() < 0 or rows.max() >= out or columns.max() >= wide:
        raise Misfit([f"shira: an index lies outside of the matrix of {out} x {wide}"])
    return full(torch.zeros(out, wide).to(held["weight"]).index_put((rows, columns), held["weight"], accumulate=True))


SHIRA = Tuner("shira", {"rank": COUNT}, _shapes, _change)
