"""HiRA: Huang et al. 2025 (OpenReview TwJrTz9cRS): a low rank factor of every entry of the frozen map.

delta = (W * (B A)) x        A [r, in], B [out, r]        * is entry by entry
"""

from adapters.methods.base import BaseMap, Shapes
from adapters.methods.tuners.forms import full
from adapters.methods.tuners.tuner import COUNT, Held, Said, Tuner, Widths
from adapters.weights import Folded


def _shapes(said: Said, width: Widths) -> Shapes:
    (wide, out), rank = width, said["rank"]
    return {"A": (rank, wide), "B": (out, rank)}


def _change(said: Said, held: Held, frozen: BaseMap) -> Folded:
    return full(frozen.weight * (held["B"] @ held["A"]))


HIRA = Tuner("hira", {"rank": COUNT}, _shapes, _change)
