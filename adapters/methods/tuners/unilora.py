"""Uni-LoRA (arXiv:2506.00799): all entries of LoRA's matrices are those of one vector, each divided by how often it occurs.

    A[i, j] = theta[a_ij] / sqrt(occurrences of a_ij)        A [r, in], B [out, r], theta [length]

Places and scales are stored, or dealt out as evenly as they come and shuffled under a seed, over the maps in the
order of the model: A before B, row by row.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from adapters.architectures.sites import Address
from adapters.errors import Misfit
from adapters.methods.base import BaseMap, Fitting, Shapes
from adapters.methods.settings import Settings
from adapters.methods.tuners.forms import product
from adapters.methods.tuners.tuner import COUNT, FLAG, Held, Said, Tuner, Widths, seed, whole
from adapters.weights import Folded

_MATRICES = ("A", "B")
LONGEST = 1 << 24  # places up to here are numbers of float32, which a package holds them as


def _length(settings: Settings, where: str, held: Mapping[str, Any], key: str) -> int:
    value = held.get(key)
    if type(value) is not int or not 1 <= value <= LONGEST:
        settings.wrong(f"{where}.{key} must be an integer from 1 to {LONGEST}, not {value!r}")
        return 1
    return value


def _seed(settings: Settings, where: str, held: Mapping[str, Any], key: str) -> int:
    """numpy's generator takes no negative one."""
    value = seed(settings, where, held, key)
    if value < 0:
        settings.wrong(f"{where}.{key} must not be negative, as {value} is")
    return max(value, 0)


def _shapes(said: Said, width: Widths) -> Shapes:
    if not said["stored"]:
        return {}
    sizes = zip(_MATRICES, _sizes(said, width), strict=True)
    return {f"{kind}_{name}": size for name, size in sizes for kind in ("indices", "scales")}


def _shared(said: Said, width: Widths) -> Shapes:
    return {"theta": (said["length"],)}


def _dealt(sites: Mapping[Address, Said], shared: Held, fitting: Fitting) -> Held:
    """What is not stored, of all maps: `indices_A.<place>` and so on."""
    some = next(iter(sites.values()))
    if some["stored"]:
        return shared
    if len({said["place"] for said in sites.values()}) < len(sites):
        raise Misfit(["unilora: two maps have one place in the model"])
    length, ordered = some["length"], sorted(sites, key=lambda address: sites[address]["place"])
    sizes = {address: _sizes(sites[address], fitting.widths(address.site)) for address in ordered}
    total = sum(a[0] * a[1] + b[0] * b[1] for a, b in sizes.values())
    indices = _balanced(total, length, some["seed"])
    scales = torch.bincount(indices, minlength=length).float().rsqrt()
    made: dict[str, Tensor] = dict(shared)
    for address in ordered:
        for name, size in zip(_MATRICES, sizes[address], strict=True):
            own, indices = indices[: size[0] * size[1]], indices[size[0] * size[1] :]
            place = sites[address]["place"]
            made |= {f"indices_{name}.{place}": own.view(size), f"scales_{name}.{place}": scales[own].view(size)}
    return made


def _sizes(said: Said, width: Widths) -> tuple[tuple[int, int], tuple[int, int]]:
    return (said["rank"], width[0]), (width[1], said["rank"])


def _balanced(total: int, length: int, seed: int) -> Tensor:
    """Places [total] in theta, as PEFT shuffles them."""
    generator = np.random.default_rng(seed)
    places = np.repeat(np.arange(length), total // length)
    if total % length:
        places = np.concatenate([places, generator.choice(length, size=total % length, replace=False)])
    generator.shuffle(places)
    return torch.from_numpy(places)


def _change(said: Said, held: Held, frozen: BaseMap) -> Folded:
    return product(_matrix(said, held, "A"), _matrix(said, held, "B"))


def _matrix(said: Said, held: Held, name: str) -> Tensor:
    behind = "" if said["stored"] else f".{said['place']}"
    places = held[f"indices_{name}{behind}"].long()
    if places.min() < 0 or places.max() >= said["length"]:
        raise Misfit([f"unilora: a place of indices_{name} lies outside of theta"])
    return held["theta"][places] * held[f"scales_{name}{behind}"]


UNILORA = Tuner(
    "unilora",
    {"rank": COUNT, "length": _length, "seed": _seed, "stored": FLAG, "place": whole},
    _shapes,
    _change,
    _shared,
    gather=_dealt,
)
