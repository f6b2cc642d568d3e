"""Super-Tuning (arXiv:2607.09287): single entries of the map, the largest or the smallest ones, change; LoRA beside it.

    delta[place_i] = values_i        + alpha / r * B A        values [count], A [r, in], B [out, r]

A place is the number of an entry of W, row by row. Places that are not `stored` are those of the entries of the largest
(`largest`) or the smallest magnitude. A rank of zero: no LoRA.
"""

from adapters.errors import Misfit
from adapters.methods.base import BaseMap, Shapes
from adapters.methods.tuners.forms import full
from adapters.methods.tuners.places import check_places
from adapters.methods.tuners.tuner import COUNT, FLAG, NUMBER, Held, Said, Tuner, Widths, whole
from adapters.weights import Folded

EXACT = 1 << 24  # integers up to here are numbers of float32, which a package holds them as


def _shapes(said: Said, width: Widths) -> Shapes:
    (wide, out), rank, count = width, said["rank"], said["count"]
    check_places(count, width)
    if said["stored"] and wide * out > EXACT:
        raise Misfit([f"places in a matrix of {out} x {wide} are not held: save with save_precomputed_indices=False"])
    found: Shapes = {"values": (count,)}
    if said["stored"]:
        found["places"] = (count,)
    return found | ({"A": (rank, wide), "B": (out, rank)} if rank else {})


def _change(said: Said, held: Held, frozen: BaseMap) -> Folded:
    values, entries = held["values"], frozen.weight.numel()
    if said["stored"]:
        places = held["places"].long()
        if places.min() < 0 or places.max() >= entries:
            raise Misfit([f"supertuning: a place lies outside of the map's {entries} entries"])
    else:
        places = frozen.weight.abs().flatten().topk(said["count"], largest=said["largest"]).indices
    delta = values.new_zeros(entries).index_add(0, places, values).view(frozen.weight.shape)
    if said["rank"]:
        delta = delta + said["alpha"] / said["rank"] * (held["B"] @ held["A"])
    return full(delta)


SUPERTUNING = Tuner(
    "supertuning",
    {"count": COUNT, "stored": FLAG, "largest": FLAG, "rank": whole, "alpha": NUMBER},
    _shapes,
    _change,
)
