"""The files of a checkpoint folder: JSON objects, and tensors from safetensors alone; a pickle is never opened."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
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


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object; raises `InvalidPackage` naming the file."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise InvalidPackage(f"{path.parent.name} holds no {path.name}") from error
    except (ValueError, OSError) as error:
        raise InvalidPackage(f"{path.name} can not be read: {error}") from error
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
    return tensors


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
