"""Does a package fit a backbone? Every reason against it is found before one error is raised."""

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from adapters.architectures.profile import BackboneProfile
from adapters.embeddings import TOKENIZER
from adapters.errors import AdapterError, Misfit
from adapters.formats import tokenizer
from adapters.formats.native import CODES
from adapters.methods import fold
from adapters.weights import Package, finite

Shapes = Mapping[str, tuple[int, ...]]


def check(package: Package, profile: BackboneProfile) -> None:
    """Raise one `Misfit` with every reason why a package can not be served on a backbone."""
    reasons: list[str] = []
    wanted: Shapes | None = None
    try:
        wanted = fold.expected(package.manifest, profile)
    except Misfit as misfit:
        reasons.extend(misfit.reasons)
    except AdapterError as error:
        reasons.append(str(error))
    if wanted is not None:
        reasons.extend(_differences(package, wanted))
    for name, tensor in package.tensors.items():
        reasons.extend(_values(name, tensor))
    reasons.extend(_tokenizer(package))
    if reasons:
        raise Misfit(reasons)


def misshapen(package: Package, profile: BackboneProfile) -> list[str]:
    """What is wrong with the settings and shapes of a package that is refused already, for what it lacks or has left."""
    try:
        wanted = fold.expected(package.manifest, profile)
    except Misfit as misfit:
        return list(misfit.reasons)
    return [
        _shape(name, tuple(tensor.shape), wanted[name])
        for name, tensor in package.tensors.items()
        if name in wanted and tuple(tensor.shape) != wanted[name]
    ]


def _shape(name: str, held: tuple[int, ...], wanted: tuple[int, ...]) -> str:
    return f"tensor {name} has the shape {list(held)}; this backbone needs {list(wanted)}"


def _differences(package: Package, wanted: Shapes) -> Iterator[str]:
    """Tensors that are missing, left over, or of another shape; a tokenizer has no fixed size."""
    held = {name: tuple(tensor.shape) for name, tensor in package.tensors.items() if name != TOKENIZER}
    expected = {name: shape for name, shape in wanted.items() if name != TOKENIZER}
    for name, shape in expected.items():
        if name not in held:
            yield f"tensor {name} is missing"
        elif held[name] != shape:
            yield _shape(name, held[name], shape)
    for name in sorted(set(held) - set(expected)):
        yield f"tensor {name} belongs to no part of the package"
    if package.manifest.kind in ("adapter", "fusion") and not any(not name.startswith("head/") for name in expected):
        yield "the package adapts no module of the backbone"


def _values(name: str, tensor: Tensor) -> Iterator[str]:
    """A wrong dtype, or values that are not finite."""
    is_bytes = name == TOKENIZER
    if tensor.dtype not in CODES or (tensor.dtype is torch.uint8) != is_bytes:
        yield f"tensor {name} has the dtype {tensor.dtype}, which is not allowed"
    elif not is_bytes and not finite(tensor):
        yield f"tensor {name} holds NaN or infinity"


def _tokenizer(package: Package) -> list[str]:
    spec, data = package.manifest.embedding, package.tensors.get(TOKENIZER)
    if spec is None:
        return []
    if (data is not None) != spec.tokenizer:
        return [f"the manifest says tokenizer={spec.tokenizer}, but the tensors say otherwise"]
    if data is None or data.dtype is not torch.uint8:
        return []
    return tokenizer.faults(data.contiguous().numpy().tobytes(), spec.vocabulary)
