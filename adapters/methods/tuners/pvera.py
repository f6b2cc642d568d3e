"""PVeRA (arXiv:2512.07703): VeRA whose low rank state is a distribution, of which a pass takes the mean.

    delta = diag(b) B diag(d_mean) A_mean x        A [2 r, in], B [out, r], d [2 r], b [out]

The first r rows of A and numbers of d make the mean, the others the logarithm of the variance, which training samples
with. A and B are those of all sites, as `vera_vectors` has them; a seed draws them where they are not `stored`.
"""

from adapters.methods.base import BaseMap, Shapes
from adapters.methods.tuners.forms import product
from adapters.methods.tuners.tuner import COUNT, FLAG, Held, Said, Tuner, Widths, seed
from adapters.methods.tuners.vera_vectors import stored_or_drawn
from adapters.weights import Folded


def _shapes(said: Said, width: Widths) -> Shapes:
    return {"lambda_d": (2 * said["rank"],), "lambda_b": (width[1],)}


def _sizes(said: Said, width: Widths) -> Shapes:
    return {"A": (2 * said["rank"], width[0]), "B": (width[1], said["rank"])}


def _change(said: Said, held: Held, frozen: BaseMap) -> Folded:
    (out, wide), rank = frozen.weight.shape, said["rank"]
    down = held["lambda_d"][:rank, None] * held["A"][:rank, :wide]
    return product(down, held["lambda_b"][:, None] * held["B"][:out])


PVERA = Tuner("pvera", {"rank": COUNT, "stored": FLAG, "seed": seed}, _shapes, _change, *stored_or_drawn(_sizes))
