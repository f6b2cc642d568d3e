"""FourierFT: Gao et al. 2024 (arXiv:2405.03003): a few entries of the change's spectrum.

delta = scaling * Re(ifft2(F))        F [out, in] is zero but for `count` entries, whose places a seed draws
"""

import torch

from adapters.methods.base import BaseMap, Shapes
from adapters.methods.tuners.forms import full
from adapters.methods.tuners.places import check_places, drawn
from adapters.methods.tuners.tuner import COUNT, NUMBER, Held, Said, Tuner, Widths, seed
from adapters.weights import Folded


def _shapes(said: Said, width: Widths) -> Shapes:
    check_places(said["count"], width)
    return {"spectrum": (said["count"],)}


def _change(said: Said, held: Held, frozen: BaseMap) -> Folded:
    spectrum = drawn(held["spectrum"], said["seed"], frozen.weight.shape)
    return full(torch.fft.ifft2(spectrum).real * said["scaling"])


FOURIERFT = Tuner("fourierft", {"count": COUNT, "scaling": NUMBER, "seed": seed}, _shapes, _change)
