"""AdaMSS, as PEFT has it: groups of a map's outputs, each with a product of low rank over the map's leading directions.

    delta of [W b], rows of group i:  B_i A_i newB        newB [n, in (+ 1)], A_i [r_i, n], B_i [outputs of i, r_i]

Which outputs are of a group is not stored: the leading left singular vectors of [W b] (as `spectrum` has them, under the
seed; of W alone where the map has no bias) are clustered by `clusters`. The last column of newB changes the bias.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from adapters.errors import Misfit
from adapters.methods.base import BaseMap, Shapes
from adapters.methods.settings import MAX_COUNT, Settings
from adapters.methods.tuners.clusters import clustered
from adapters.methods.tuners.forms import product
from adapters.methods.tuners.spectrum import leading
from adapters.methods.tuners.tuner import COUNT, Held, Said, Tuner, Widths, seed
from adapters.weights import Folded

_ITERATIONS, _STEPS, _CLUSTER_SEED = 2, 10, 123456789  # PEFT's, which no configuration says


def _groups(settings: Settings, where: str, held: Mapping[str, Any], key: str) -> tuple[tuple[int, int], ...]:
    """[outputs, rank] of every group."""
    value = held.get(key)
    pairs = [tuple(pair) for pair in value if isinstance(pair, list | tuple)] if isinstance(value, list | tuple) else []
    sound = all(len(p) == 2 and all(type(n) is int and 1 <= n <= MAX_COUNT for n in p) for p in pairs)
    if not pairs or len(pairs) != len(value or ()) or not sound:
        settings.wrong(f"{where}.{key} must be a list of [outputs, rank] of groups, not {value!r}")
        return ()
    return tuple((outputs, rank) for outputs, rank in pairs)


def _shapes(said: Said, width: Widths) -> Shapes:
    (wide, out), directions = width, said["directions"]
    if sum(outputs for outputs, _ in said["groups"]) != out:
        raise Misfit([f"the groups {said['groups']} do not make up the map's {out} outputs"])
    columns = said["columns"]
    if columns - wide not in (0, 1):
        raise Misfit([f"{columns} columns are neither the map's {wide} inputs nor one more, for its bias"])
    if directions > min(out, columns):
        raise Misfit([f"the {directions} directions are more than a matrix of {out} x {columns} has"])
    found: Shapes = {"newB": (directions, columns)}
    for i, (outputs, rank) in enumerate(said["groups"]):
        found |= {f"A.{i}": (rank, directions), f"B.{i}": (outputs, rank)}
    return found


def _change(said: Said, held: Held, frozen: BaseMap) -> Folded:
    count, wide = len(said["groups"]), frozen.weight.shape[1]
    places = _places(said, frozen)
    low = torch.cat([held[f"A.{i}"] for i in range(count)])
    blocks = [held[f"B.{i}"] for i in range(count)]
    spread: Tensor = torch.block_diag(*blocks)  # type: ignore[no-untyped-call]  # torch has no types for it
    up = torch.zeros_like(spread).index_copy(0, places, spread)
    # The groups may have more dimensions together than there are directions.
    up, down = (up @ low, held["newB"]) if len(low) > said["directions"] else (up, low @ held["newB"])
    return product(down[:, :wide], up, bias=up @ down[:, wide] if said["columns"] > wide else None)


def _places(said: Said, frozen: BaseMap) -> Tensor:
    """The outputs [out], group by group."""
    weight = frozen.weight
    if weight.min() == weight.max():  # no map: see `Fitting.weight`
        return torch.arange(len(weight))
    matrix = torch.cat([weight, frozen.bias[:, None]], dim=1) if said["columns"] > weight.shape[1] else weight
    vectors, _, _ = leading(matrix.float(), said["directions"], _ITERATIONS, said["seed"])
    labels = torch.from_numpy(clustered(vectors.numpy(), len(said["groups"]), _STEPS, _CLUSTER_SEED))
    sizes = torch.bincount(labels, minlength=len(said["groups"])).tolist()
    if sizes != [outputs for outputs, _ in said["groups"]]:
        raise Misfit([f"adamss: this backbone's map groups its outputs as {sizes}, the adapter's as {said['groups']}"])
    return torch.argsort(labels, stable=True)


ADAMSS = Tuner("adamss", {"directions": COUNT, "columns": COUNT, "groups": _groups, "seed": seed}, _shapes, _change)
