"""FRoD, as PEFT has it: maps of one kind share a basis V of their inputs, in which single entries may change.

    W' = U (S + diag(l)) V^T        U diag(n) V^T = W, with columns of U of length one

V [in, in] and the places [2, count] of the entries of S are of a kind (`category`), l [in] and the entries of a map. What
is of a kind is stored, or `built`: V out of all the kind's frozen maps, the places under a seed. Where all W of a kind are
much alike, as where it has only one, V is what rounding leaves: then only the torch and the kind of CPU that saved the
adapter give the same V again.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from adapters.architectures.sites import Address
from adapters.errors import Misfit
from adapters.methods.base import BaseMap, Fitting, Shapes
from adapters.methods.settings import Settings, number_in
from adapters.methods.tuners.forms import full
from adapters.methods.tuners.tuner import FLAG, Held, Said, Tuner, Widths, seed, whole
from adapters.weights import Folded

NONE_BELOW = 1e-12  # the length of a column that has no direction


def _category(settings: Settings, where: str, held: Mapping[str, Any], key: str) -> str:
    value = held.get(key)
    if not isinstance(value, str) or not value:
        settings.wrong(f"{where}.{key} must be a name, not {value!r}")
        return "none"
    return value


def _ridge(settings: Settings, where: str, held: Mapping[str, Any], key: str) -> float:
    return number_in(settings, where, held, key) if held.get("built") else 0.0


def _seed(settings: Settings, where: str, held: Mapping[str, Any], key: str) -> int:
    return seed(settings, where, held, key) if held.get("built") else 0


def _shapes(said: Said, width: Widths) -> Shapes:
    found: Shapes = {"l": (width[0],)}
    return found | ({"values": (said["count"],)} if said["count"] else {})


def _kin(said: Said, width: Widths) -> Shapes:
    (wide, _), category = width, said["category"]
    if said["built"]:
        return {}
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


def _built(sites: Mapping[Address, Said], shared: Held, fitting: Fitting) -> Held:
    """V and the places of every kind, by name; one generator serves all kinds."""
    some = next(iter(sites.values()))
    if not some["built"]:
        return shared
    made, generator = dict(shared), torch.Generator().manual_seed(some["seed"])
    for category, held in sorted(_kinds(sites, fitting).items()):
        addresses = [held[number] for number in sorted(held)]
        basis = _basis([fitting.weight(address).float() for address in addresses], some["ridge"])
        made[f"V.{category}"], wide = basis, len(basis)
        if count := sites[addresses[0]]["count"]:
            if count > wide * (wide - 1):
                raise Misfit([f"frod: {count} entries are more than {wide} channels have beside the diagonal"])
            places = torch.randperm(wide * (wide - 1), generator=generator)[:count]
            rows, columns = places // (wide - 1), places % (wide - 1)
            made[f"places.{category}"] = torch.stack([rows, columns + (columns >= rows)])
    return made


def _kinds(sites: Mapping[Address, Said], fitting: Fitting) -> dict[str, dict[int, Address]]:
    """The maps that a kind's basis is built of, by the number of their layer: a decoder's takes the place of its encoder's."""
    family, found = fitting.architecture, dict[str, dict[int, Address]]()
    for address in sorted(sites, key=lambda address: -1 if address.layer is None else address.layer):
        number = -1 if address.layer is None else address.layer
        decodes = family.decoder is not None and number >= family.encoder_layers
        found.setdefault(sites[address]["category"], {})[number - family.encoder_layers * decodes] = address
    return found


def _basis(weights: list[Tensor], ridge: float) -> Tensor:
    """V [in, in]: the step of a hierarchical decomposition that all maps [out, in] of a kind share."""
    tall = torch.cat(weights)
    if len(tall) < tall.shape[1]:
        right: Tensor = torch.linalg.svd(tall, full_matrices=True)[2]
        return right.T
    columns, upper = torch.linalg.qr(tall)
    mean = torch.zeros_like(upper)
    for part in columns.split([len(weight) for weight in weights]):
        mean += torch.linalg.inv(part.T @ part + ridge * torch.eye(len(upper)))
    directions: Tensor = torch.linalg.eigh(mean / len(weights))[1]
    basis: Tensor = upper.T @ directions
    return basis


FROD = Tuner(
    "frod",
    {"category": _category, "count": whole, "built": FLAG, "seed": _seed, "ridge": _ridge},
    _shapes,
    _change,
    kin_at=_kin,
    gather=_built,
)
