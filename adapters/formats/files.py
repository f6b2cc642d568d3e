"""The files of a checkpoint folder: JSON objects, and tensors from safetensors alone; a pickle is never opened."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from adapters.errors import InvalidPackage, UnsafeFile
from adapters.formats.native import refuse_pickle
from adapters.members import parse
from adapters.weights import finite

# What a library calls its weights in safetensors, and what it calls them as a pickle.
PICKLED: Mapping[str, str] = {
    "adapter.safetensors": "pytorch_adapter.bin",
    "model_head.safetensors": "pytorch_model_head.bin",
    "model_adapter_fusion.safetensors": "pytorch_model_adapter_fusion.bin",
    "adapter_model.safetensors": "adapter_model.bin",
    "embedding.safetensors": "embedding.pt",
}
MAX_JSON_BYTES = 32 << 20
MAX_NAME = 1000  # characters of a tensor's name
MOST_REASONS = 10
_NARROW = 16  # bits: what is narrower (float8) needs a scale that no adapter's file holds


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object; raises `InvalidPackage` naming the file."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_JSON_BYTES + 1)
        text = data.decode("utf-8")
    except FileNotFoundError as error:
        raise InvalidPackage(f"{path.parent.name} holds no {path.name}") from error
    except (ValueError, OSError) as error:
        raise InvalidPackage(f"{path.name} can not be read: {error}") from error
    if len(data) > MAX_JSON_BYTES:
        raise InvalidPackage(f"{path.name} has more than {MAX_JSON_BYTES} bytes: it is no configuration")
    value = parse(text, path.name)
    if not isinstance(value, dict):
        raise InvalidPackage(f"{path.name} is not a JSON object")
    return value


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write a JSON object with sorted keys."""
    path.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def holds(folder: Path, name: str) -> bool:
    """Whether a folder holds the weights of this name, as safetensors or as a pickle."""
    return (folder / name).is_file() or (folder / PICKLED[name]).is_file()


def read_tensors(folder: Path, name: str) -> dict[str, Tensor]:
    """The tensors of one safetensors file; raises `UnsafeFile` where only its pickle is there, or `InvalidPackage`."""
    path, pickled = folder / name, PICKLED[name]
    if not path.is_file():
        if (folder / pickled).is_file():
            raise UnsafeFile(f"{pickled} is a pickle, which could run code; convert the folder with `chorus convert`")
        raise InvalidPackage(f"{folder.name} holds no {name}")
    with path.open("rb") as file:
        refuse_pickle(file.read(9), path.name)
    try:
        tensors: dict[str, Tensor] = safetensors.torch.load_file(path)
    except (safetensors.SafetensorError, OSError, ValueError, KeyError) as error:
        raise InvalidPackage(f"{name} is no readable safetensors file: {error}") from error
    reasons = [reason for key, tensor in tensors.items() for reason in _strange(key, tensor)]
    if reasons:
        raise InvalidPackage(f"{name}: {'; '.join(reasons[:MOST_REASONS])}")
    return tensors


def _strange(key: str, tensor: Tensor) -> Iterator[str]:
    """What no library stores of an adapter."""
    if len(key) > MAX_NAME:
        yield f"the name of a tensor, {key[:60]}..., has {len(key)} characters; at most {MAX_NAME}"
    if tensor.is_complex() or (tensor.is_floating_point() and torch.finfo(tensor.dtype).bits < _NARROW):
        yield f"{key:.60} is stored as {tensor.dtype}: save it as float32"


def not_finite(folder: Path) -> list[str]:
    """A reason for every tensor of a folder's safetensors files that holds NaN or infinity."""
    tensors = [read_tensors(folder, name) for name in PICKLED if (folder / name).is_file()]
    return [
        f"{key} holds NaN or infinity"
        for held in tensors
        for key, tensor in held.items()
        if tensor.is_floating_point() and not finite(tensor)
    ]


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write safetensors, in the place of the pickle of an older save, which its library might read first.

    The tensors are copied before, because files do not hold shared memory.
    """
    safetensors.torch.save_file({name: t.detach().clone().contiguous() for name, t in tensors.items()}, path)
    (path.parent / PICKLED[path.name]).unlink(missing_ok=True)


def remove_tensors(folder: Path, name: str) -> None:
    """Remove the weights of this name, as safetensors and as a pickle, where they are."""
    for held in (name, PICKLED[name]):
        (folder / held).unlink(missing_ok=True)
