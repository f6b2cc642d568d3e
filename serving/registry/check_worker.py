"""The process that reads hostile uploads: `python -m serving.registry.check_worker`, JSON lines over its pipes.

    first line   {"profile": {...}, "memory_bytes": n, "backbone": "..."}   -> {"ready": true}
    to check     {"path": "..."}         -> {"digest", "nbytes", "manifest", "device_bytes", "warnings"}
    to try       {"path": "...", "input": "..."}   -> the same, and {"parameters", "matched", "untouched", "trial", "untried"}
    to build     {"build": {...}}        -> {"nbytes": n}, and then n bytes: the package of a new vocabulary
    either                               -> {"error", "message", "reasons": [...]}

It holds no key and no connection, writes no file, and may use only so much memory. After anything but a refusal it
ends, so that the next file meets a fresh process.
"""

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, TextIO

import torch
from tokenizers import Tokenizer
from torch import Tensor

from adapters.architectures.profile import BackboneProfile
from adapters.errors import AdapterError, InvalidPackage, Misfit, UnsafeFile
from adapters.formats import native, tokenizer
from adapters.formats.check import check
from adapters.manifest import EmbeddingSpec, Manifest, to_json
from adapters.methods.fold import fold
from adapters.requires import Requires
from adapters.vocabulary import backbone_matrix, new_matrix
from adapters.weights import Adapter, Package, finite
from serving.registry.check_attempts import Attempts
from serving.registry.check_modules import matched, untouched
from serving.registry.confinement import Confinement

_NICE = 5  # predictions go first where there are not cores enough: a publisher can wait, and waits seldom
_MANY = 10_000_000  # rows; ids are checked against the matrix that is made for them


def examine(path: Path, profile: BackboneProfile) -> dict[str, Any]:
    """The report of one package; raises `AdapterError` with every reason."""
    return _report(*_read(path, profile))


def inspect(path: Path, profile: BackboneProfile, text: str, attempts: Attempts) -> dict[str, Any]:
    """The report of one package, what of the backbone it touches, and what it answers to a text."""
    data, package, adapter = _read(path, profile)
    trial, untried = attempts.run(package, text)
    touched = matched(adapter, profile.geometry)
    told = _report(data, package, adapter)
    if trial is not None and trial.change == 0.0:
        told["warnings"].append("it changes nothing: on the reference input the states are the bare backbone's")
    if untried and package.manifest.kind == "adapter":
        told["warnings"].append(f"it was not tried: {untried}")
    return {
        **told,
        "parameters": sum(tensor.numel() for name, tensor in package.tensors.items() if name != native.TOKENIZER),
        "matched": touched,
        "untouched": untouched(touched, profile.geometry),
        "trial": None if trial is None else asdict(trial),
        "untried": untried,
    }


def _read(path: Path, profile: BackboneProfile) -> tuple[bytes, Package, Adapter | None]:
    """A file's bytes, its package, and what a pass would need of it; None for a token embedding."""
    native.preparse(path)  # a hostile header is refused before the file is in memory
    data = path.read_bytes()
    package = native.read(data)
    if package.manifest.kind == "target":
        raise Misfit(["a target is not uploaded: PUT /v1/targets/{name} makes it of what is published"])
    check(package, profile)
    return data, package, _folded(package, profile)


def _report(data: bytes, package: Package, adapter: Adapter | None) -> dict[str, Any]:
    return {
        "digest": native.digest(data),
        "nbytes": len(data),
        "manifest": to_json(package.manifest),
        "device_bytes": 0 if adapter is None else adapter.nbytes,
        "warnings": warnings_of(package.manifest),
    }


def _folded(package: Package, profile: BackboneProfile) -> Adapter | None:
    """A token embedding stays in host memory; only what is folded takes room on the device, and must be finite there."""
    if package.manifest.kind == "embedding":
        return None
    folded = fold(package, profile, torch.float32)
    if not finite(folded.flat):
        raise Misfit(["the weights are finite, but fold to values that are not: a scaling is too large"])
    return folded


def build(job: Mapping[str, Any], profile: BackboneProfile, backbone: Path | None) -> bytes:
    """The native package of a `serving.registry.records.MatrixJob`; raises `Misfit` with every reason."""
    data, geometry = Path(job["tokenizer"]).read_bytes(), profile.geometry
    tokens = _tokens(data, "tokenizer")
    rows = 1 + max((len(tokens) - 1, *tokens.values()))
    if 4 * rows * geometry.embedding_size + len(data) > job["max_bytes"]:
        raise Misfit([f"a matrix of {rows} rows and its tokenizer are more than {job['max_bytes']} bytes"])
    known, vectors = _reference(job, profile, backbone) if job["copy"] else (None, None)
    matrix = new_matrix(tokens, geometry.embedding_size, known, vectors, job["seed"])
    manifest = Manifest(
        "embedding",
        Requires.of(geometry),
        embedding=EmbeddingSpec(matrix.shape[0], matrix.shape[1], tokenizer=True),
        source={"reference_embedding": job["source"], "seed": job["seed"]},
    )
    raw = torch.frombuffer(bytearray(data), dtype=torch.uint8)
    return native.write(Package(manifest, {native.MATRIX: matrix, native.TOKENIZER: raw}))


def _reference(
    job: Mapping[str, Any], profile: BackboneProfile, backbone: Path | None
) -> tuple[dict[str, int], Tensor]:
    """What may be copied: the reference's tokens and matrix; an embedding without a tokenizer uses the backbone's."""
    if backbone is None:
        raise Misfit(["this service has no vocabulary to copy from"])
    data = (backbone / "tokenizer.json").read_bytes()
    if job["package"] is None:
        matrix = backbone_matrix(backbone, profile.geometry)
    else:
        package = native.read(Path(job["package"]))
        matrix = package.tensors[native.MATRIX]
        held = package.tensors.get(native.TOKENIZER)
        data = data if held is None else held.numpy().tobytes()
    if job["reference_tokenizer"] is not None:
        return _tokens(Path(job["reference_tokenizer"]).read_bytes(), "reference tokenizer"), matrix
    return Tokenizer.from_buffer(data).get_vocab(), matrix


def _tokens(data: bytes, what: str) -> dict[str, int]:
    """String -> id of a tenant's tokenizer, added tokens included; raises `Misfit`."""
    reasons = tokenizer.faults(data, _MANY)
    if reasons:
        raise Misfit([reason.replace("the tokenizer", f"the {what}", 1) for reason in reasons])
    tokens: dict[str, int] = Tokenizer.from_buffer(data).get_vocab()
    if not tokens:
        raise Misfit([f"the {what} has no tokens"])
    return tokens


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
    backbone = None if hello["backbone"] is None else Path(hello["backbone"])
    torch.set_num_threads(1)
    attempts = Attempts(backbone, Confinement.begin(hello["memory_bytes"], backbone))
    say({"ready": True})
    for line in lines:
        try:
            question = json.loads(line)
            if "build" in question:
                data = build(question["build"], profile, backbone)
                say({"nbytes": len(data)})
                answers.buffer.write(data)
                answers.buffer.flush()
            elif "input" in question:
                say(inspect(Path(question["path"]), profile, question["input"], attempts))
            else:
                say(examine(Path(question["path"]), profile))
        except AdapterError as error:
            say(refusal_of(error))
        except Exception as error:  # told, and then this process has seen enough
            say(refusal_of(error))
            return


def main() -> None:
    """Keep stdout for answers: whatever a library prints goes to stderr."""
    os.nice(_NICE)
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    serve(sys.stdin, answers)


if __name__ == "__main__":
    main()
