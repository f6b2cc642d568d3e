"""DeLoRA: Bini et al. 2025 (arXiv:2503.18225): directions of length one, whose strength is learned apart.

delta = B diag(lambda / (r |A_i| |B_i|)) A diag(w) x        w [in]: the lengths of the columns of W at the start
"""

from adapters.methods.base import BaseMap, Shapes
from adapters.methods.tuners.forms import product
from adapters.methods.tuners.tuner import COUNT, Held, Said, Tuner, Widths
from adapters.weights import Folded

SHORTEST = 1e-4


def _shapes(said: Said, width: Widths) -> Shapes:
    (wide, out), rank = width, said["rank"]
    return {"A": (rank, wide), "B": (out, rank), "lambda": (1,), "w_norm": (wide,)}


def _change(said: Said, held: Held, frozen: BaseMap) -> Folded:
    lengths = held["A"].norm(dim=1).clamp(min=SHORTEST) * held["B"].norm(dim=0).clamp(min=SHORTEST)
    return product(held["A"] * held["w_norm"], held["B"] * (held["lambda"] / said["rank"] / lengths))


DELORA = Tuner("delora", {"rank": COUNT}, _shapes, _change)
