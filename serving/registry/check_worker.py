"""The process that reads hostile uploads: `python -m serving.registry.check_worker`, JSON lines over its pipes.

    first line   {"profile": {...}, "memory_bytes": n}   -> {"ready": true}
    every other  {"path": "..."}                         -> {"digest", "nbytes", "manifest", "device_bytes", "warnings"}
                                                          | {"error", "message", "reasons": [...]}

It holds no key and no connection, writes no file, and may use only so much memory. After anything but a refusal it
ends, so that the next file meets a fresh process.
"""

import json
import os
import resource
import sys
from pathlib import Path
from typing import Any, TextIO

import torch

from adapters.architectures.profile import BackboneProfile
from adapters.errors import AdapterError, InvalidPackage, Misfit, UnsafeFile
from adapters.formats import native
from adapters.formats.check import check
from adapters.manifest import Manifest, to_json
from adapters.methods.fold import fold
from adapters.weights import Package


def examine(path: Path, profile: BackboneProfile) -> dict[str, Any]:
    """The report of one package; raises `AdapterError` with every reason."""
    native.preparse(path)  # a hostile header is refused before the file is in memory
    data = path.read_bytes()
    package = native.read(data)
    check(package, profile)
    manifest = package.manifest
    return {
        "digest": native.digest(data),
        "nbytes": len(data),
        "manifest": to_json(manifest),
        "device_bytes": _device_bytes(package, profile),
        "warnings": warnings_of(manifest),
    }


def _device_bytes(package: Package, profile: BackboneProfile) -> int:
    """A token embedding stays in host memory; only what is folded takes room on the device, and must be finite there."""
    if package.manifest.kind == "embedding":
        return 0
    folded = fold(package, profile, torch.float32)
    if not bool(torch.isfinite(folded.flat).all()):
        raise Misfit(["the weights are finite, but fold to values that are not: a scaling is too large"])
    return folded.nbytes


def warnings_of(manifest: Manifest) -> list[str]:
    """What a publisher should know of a package that is good."""
    found = []
    if manifest.head is not None and all(label == f"LABEL_{i}" for i, label in enumerate(manifest.head.labels)):
        found.append("the head brings no label names: answers will say LABEL_0, LABEL_1, ...")
    if manifest.kind == "adapter" and manifest.head is None:
        found.append("no head travels with this adapter: a request must name one, or ask for features")
    return found


def refusal_of(error: BaseException) -> dict[str, Any]:
    """What is told of an error: the library's own in full, others by type."""
    for kind in (UnsafeFile, InvalidPackage, Misfit):
        if isinstance(error, kind):
            return {"error": kind.__name__, "message": str(error), "reasons": list(getattr(error, "reasons", ()))}
    if isinstance(error, AdapterError):
        return {"error": "Misfit", "message": str(error), "reasons": [str(error)]}
    if isinstance(error, MemoryError) or "allocate memory" in str(error):
        return {"error": "memory", "message": "this file needs more memory than a check may use", "reasons": []}
    return {"error": "failed", "message": f"the check failed on this file ({type(error).__name__})", "reasons": []}


def serve(lines: TextIO, answers: TextIO) -> None:
    """Answer line by line until the pipe closes, or until a check fails in a way that leaves doubt."""

    def say(value: dict[str, Any]) -> None:
        answers.write(json.dumps(value, ensure_ascii=False) + "\n")
        answers.flush()

    hello = json.loads(lines.readline())
    profile = BackboneProfile.from_json(hello["profile"])
    _confine(hello["memory_bytes"])
    say({"ready": True})
    for line in lines:
        try:
            say(examine(Path(json.loads(line)["path"]), profile))
        except AdapterError as error:
            say(refusal_of(error))
        except Exception as error:  # told, and then this process has seen enough
            say(refusal_of(error))
            return


def _confine(memory_bytes: int) -> None:
    """Cap private memory at what is used now plus `memory_bytes`; no files, no core dumps."""
    used = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmData"))
    cap = int(used.split()[1]) * 1024 + memory_bytes
    resource.setrlimit(resource.RLIMIT_DATA, (cap, cap))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    torch.set_num_threads(1)


def main() -> None:
    """Keep stdout for answers: whatever a library prints goes to stderr."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    serve(sys.stdin, answers)


if __name__ == "__main__":
    main()
