"""The only file that opens a pickle: torch's restricted loader, tensors only, under a memory limit of its own.

    python -m adapters.formats.convert_worker SOURCE TARGET MEMORY_BYTES

Answers one line of JSON on stdout: {"error": null} or {"error": "the reason"}.
"""

import json
import resource
import sys
from pathlib import Path

MAX_TENSORS = 100_000
POOL = ".prefix_tuning.pool."


def main(arguments: list[str]) -> int:
    """Convert one file; 0 if it was converted."""
    source, target, memory = Path(arguments[0]), Path(arguments[1]), int(arguments[2])
    resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        convert_file(source, target)
    except BaseException as error:  # whatever a hostile file does, the answer is a line of JSON
        target.unlink(missing_ok=True)
        sys.stdout.write(json.dumps({"error": f"{type(error).__name__}: {str(error)[:500]}"}) + "\n")
        return 1
    sys.stdout.write(json.dumps({"error": None}) + "\n")
    return 0


def convert_file(source: Path, target: Path) -> None:
    """Write the tensors of a pickle as safetensors; raises where it holds anything else."""
    import torch  # noqa: PLC0415 - after the memory limit is set
    from safetensors.torch import save_file  # noqa: PLC0415 - as above

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
    kept = {key: tensor for key, tensor in value.items() if not _is_copy(key, value, torch)}
    save_file({key: tensor.detach().clone().contiguous() for key, tensor in kept.items()}, target)


def _is_copy(key: str, tensors: dict[str, object], torch: object) -> bool:
    """Whether a key is a layer's second name for the prefix of the whole model, which is kept."""
    if POOL not in key:
        return False
    tail = "prefix_tuning." + key.partition(POOL)[2]
    owners = [name for name in tensors if POOL not in name and (name == tail or name.endswith(f".{tail}"))]
    if len(owners) != 1:
        return False
    if not torch.equal(tensors[key], tensors[owners[0]]):  # type: ignore[attr-defined]
        raise ValueError(f"{key!r} and {owners[0]!r} should be one tensor, but differ")
    return True


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
