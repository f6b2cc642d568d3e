"""BEFT (arXiv:2509.15974): a learned vector is added to what a map gives: y' = y + bias, with bias [1, out]."""

from adapters.methods.base import BaseMap, Shapes
from adapters.methods.tuners.forms import shift
from adapters.methods.tuners.tuner import Held, Said, Tuner, Widths
from adapters.weights import Folded


def _shapes(said: Said, width: Widths) -> Shapes:
    return {"bias": (1, width[1])}


def _change(said: Said, held: Held, frozen: BaseMap) -> Folded:
    return shift(held["bias"].flatten())


BEFT = Tuner("beft", {}, _shapes, _change)
