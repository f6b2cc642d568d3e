"""FRoD, as PEFT has it: maps of one kind share a basis V of their inputs, in which single entries may change.

    W' = U (S + diag(l)) V^T        U diag(n) V^T = W, with columns of U of length one

V [in, in] and the places [2, count] of the entries of S are stored by kind (`category`), l [in] and the entries by map.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from adapters.errors import Misfit
from adapters.methods.base import BaseMap, Shapes
from adapters.methods.settings import Settings
from adapters.methods.tuners.forms import full
from adapters.methods.tuners.tuner import Held, Said, Tuner, Widths, whole
from adapters.weights import Folded

NONE_BELOW = 1e-12  # the length of a column that has no direction


def _category(settings: Settings, where: str, held: Mapping[str, Any], key: str) -> str:
    value = held.get(key)
    if not isinstance(value, str) or not value:
        settings.wrong(f"{where}.{key} must be a name, not {value!r}")
        return "none"
    return value


def _shapes(said: Said, width: Widths) -> Shapes:
    found: Shapes = {"l": (width[0],)}
    return found | ({"values": (said["count"],)} if said["count"] else {})


def _kin(said: Said, width: Widths) -> Shapes:
    (wide, _), category = width, said["category"]
    found: Shapes = {f"V.{category}": (wide, wide), f"size.{category}": (2,)}
    return found | ({f"places.{category}": (2, said["count"])} if said["count"] else {})


def _change(said: Said, held: Held, frozen: BaseMap) -> Folded:
    basis = held[f"V.{said['category']}"]
    inner = torch.diag(held["l"])
    if said["count"]:
        rows, columns = held[f"places.{said['category']}"].long()
        if min(rows.min(), columns.min()) < 0 or max(rows.max(), columns.max()) >= len(basis):
            raise Misfit([f"frod: an entry of {said['category']} lies outside of its {len(basis)} channels"])
        inner = inner.index_put((rows, columns), held["values"], accumulate=True)
    return full(_directions(basis, frozen.weight) @ inner @ basis.T - frozen.weight)


def _directions(basis: Tensor, weight: Tensor) -> Tensor:
    """U [out, in]: the columns of W V^-T, of length one."""
    wide, own = weight.double(), basis.double()
    solved, failed = torch.linalg.solve_ex(own, wide.T)
    columns = wide @ torch.linalg.pinv(own, rtol=1e-6).T if failed else solved.T
    lengths = columns.norm(dim=0)
    return torch.where(lengths > NONE_BELOW, columns / lengths, 0.0).to(basis)


FROD = Tuner("frod", {"category": _category, "count": whole}, _shapes, _change, kin_at=_kin)
