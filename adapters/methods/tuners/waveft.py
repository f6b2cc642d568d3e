"""WaveFT: Bilican et al. 2025 (arXiv:2505.12532): a few wavelet coefficients of the change.

    delta = scaling * synthesis(C)        C is zero but for `count` entries, whose places a seed draws

Places are drawn in the matrix [out, in] itself; C has a rim around it, as wide as the synthesis takes off. Without
`synthesis` the entries are those of delta.
"""

from torch.nn import functional

from adapters.methods.base import BaseMap, Shapes
from adapters.methods.tuners.forms import full
from adapters.methods.tuners.places import check_places, drawn
from adapters.methods.tuners.tuner import COUNT, FLAG, NUMBER, Held, Said, Tuner, Widths, one_of, seed
from adapters.methods.tuners.wavelets import LOW_PASS, synthesis
from adapters.weights import Folded


def _shapes(said: Said, width: Widths) -> Shapes:
    check_places(said["count"], width)
    return {"spectrum": (said["count"],)}


def _change(said: Said, held: Held, frozen: BaseMap) -> Folded:
    out, wide = frozen.weight.shape
    delta = drawn(held["spectrum"], said["seed"], (out, wide))
    if said["synthesis"]:
        rim = len(LOW_PASS[said["wavelet"]]) - 2
        tall, broad = (size + rim + (size + rim) % 2 for size in (out, wide))
        above, left = (tall - out) // 2, (broad - wide) // 2
        placed = functional.pad(delta, (left, broad - wide - left, above, tall - out - above))
        made = synthesis(placed, said["wavelet"])
        above, left = (made.shape[0] - out) // 2, (made.shape[1] - wide) // 2
        delta = made[above : above + out, left : left + wide]
    return full(delta * said["scaling"])


WAVEFT = Tuner(
    "waveft",
    {"count": COUNT, "scaling": NUMBER, "seed": seed, "synthesis": FLAG, "wavelet": one_of(*LOW_PASS)},
    _shapes,
    _change,
)
