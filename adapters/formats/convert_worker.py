"""The only file that opens a pickle: torch's restricted loader, tensors only, under a memory limit of its own.

    python -m adapters.formats.convert_worker MEMORY_BYTES < [["source", "target"], ...]

Answers one line of JSON on stdout: {"error": null}, or {"error": "the reason", "file": "the source"} for the first file
that can not be converted. A plain checkpoint is copied without torch, which takes seconds to import (`torch_zip`);
every other file goes through torch.
"""

import json
import resource
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

from adapters.formats import torch_zip
from adapters.formats.torch_zip import MAX_TENSORS, NotPlain, Plain

MAX_BYTES = 8 << 30  # of one file that is written
POOL = ".prefix_tuning.pool."
MAX_KEY = 1000  # characters
_PREFIX = "prefix_tuning."


def main(arguments: list[str], jobs: BinaryIO) -> int:
    """Convert every file; 0 if all were converted."""
    memory = int(arguments[0])
    resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    source = target = ""
    try:
        for source, target in json.load(jobs):
            convert_file(Path(source), Path(target))
    except BaseException as error:  # whatever a hostile file does, the answer is a line of JSON
        if target:
            Path(target).unlink(missing_ok=True)
        answer = {"error": f"{type(error).__name__}: {str(error)[:500]}", "file": Path(source).name}
        sys.stdout.write(json.dumps(answer) + "\n")
        return 1
    sys.stdout.write(json.dumps({"error": None}) + "\n")
    return 0


def convert_file(source: Path, target: Path) -> None:
    """Write the tensors of a pickle as safetensors; raises where it holds anything else."""
    try:
        copy_plain(source, target)
    except NotPlain:
        load_with_torch(source, target)


def copy_plain(source: Path, target: Path) -> None:
    """The conversion of a zip archive of contiguous tensors; raises `NotPlain`, or `ValueError` where copies differ."""
    with torch_zip.opened(source) as archive:
        tensors = torch_zip.describe(archive)

        def equal(a: str, b: str) -> bool:
            return tensors[a] == tensors[b] or torch_zip.same(archive, tensors[a], tensors[b])

        kept = {key: tensors[key] for key in _without_copies(tensors, equal)}
        if sum(t.end - t.start for t in kept.values()) > MAX_BYTES:
            raise NotPlain
        text = _header(kept)
        with target.open("wb") as file:
            file.write(len(text).to_bytes(8, "little") + text)
            for tensor in kept.values():
                torch_zip.copy(archive, tensor, file)


def load_with_torch(source: Path, target: Path) -> None:
    """The conversion of anything else that holds tensors by name, and nothing but them."""
    import torch  # noqa: PLC0415 - after the memory limit is set, and only where it is needed
    from safetensors.torch import save_file  # noqa: PLC0415 - as above

    torch_zip.refuse_packed(source)
    value = torch.load(source, map_location="cpu", weights_only=True)
    if isinstance(value, torch.Tensor):
        value = {"embedding": value}  # an embedding.pt is one bare parameter
    if not isinstance(value, dict) or len(value) > MAX_TENSORS:
        raise ValueError("it holds no table of tensors")
    for key, tensor in value.items():
        if not isinstance(key, str) or not isinstance(tensor, torch.Tensor):
            raise TypeError(f"{str(key)[:100]!r} is no tensor but {type(tensor).__name__}")
        if tensor.layout is not torch.strided or tensor.is_quantized or tensor.device.type != "cpu":
            raise ValueError(f"{key[:100]!r} is no plain dense tensor")
    kept = _without_copies(value, lambda a, b: torch.equal(value[a], value[b]))
    save_file({key: value[key].detach().clone().contiguous() for key in kept}, target)


def _header(tensors: Mapping[str, Plain]) -> bytes:
    """The header of a safetensors file."""
    header: dict[str, object] = {}
    end = 0
    for key, tensor in tensors.items():
        start, end = end, end + tensor.end - tensor.start
        header[key] = {"dtype": tensor.dtype, "shape": list(tensor.shape), "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    return text + b" " * (-len(text) % 8)


def _without_copies(names: Collection[str], equal: Callable[[str, str], bool]) -> list[str]:
    """The keys but for a layer's second names of the prefix of the whole model, which is kept.

    A copy belongs to the one key outside of the pool that ends as it does; where several do, none of them owns it.
    """
    if any(len(name) > MAX_KEY for name in names):
        raise ValueError(f"the name of a tensor has more than {MAX_KEY} characters")
    owners: dict[str, list[str]] = {}
    for name in names:
        if POOL in name:
            continue
        for at in _starts(name):
            owners.setdefault(name[at:], []).append(name)
    kept = []
    for name in names:
        owning = owners.get(_PREFIX + name.partition(POOL)[2], []) if POOL in name else []
        if len(owning) != 1:
            kept.append(name)
        elif not equal(name, owning[0]):
            raise ValueError(f"{name!r} and {owning[0]!r} should be one tensor, but differ")
    return kept


def _starts(name: str) -> Iterator[int]:
    """Where `prefix_tuning.` begins in a key, at its start or behind a dot."""
    at = name.find(_PREFIX)
    while at >= 0:
        if at == 0 or name[at - 1] == ".":
            yield at
        at = name.find(_PREFIX, at + 1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], sys.stdin.buffer))
