"""A vocabulary's folder: one matrix (the converter makes it from `embedding.pt`), and its tokenizer, if it has one."""

from pathlib import Path

import torch

from adapters.architectures.profile import BackboneProfile
from adapters.errors import Misfit
from adapters.formats import files
from adapters.formats.adapterhub.envelope import LIBRARY, made_for
from adapters.formats.native import MATRIX, TOKENIZER
from adapters.manifest import EmbeddingSpec, Manifest, Provenance
from adapters.weights import Package

FILE = "embedding.safetensors"


def read(folder: Path, profile: BackboneProfile) -> Package:
    """Read a folder; the files name neither a model nor the vocabulary."""
    stored = files.read_tensors(folder, FILE)
    matrix = next(iter(stored.values()), None)
    if matrix is None or len(stored) != 1 or matrix.dim() != 2:
        raise Misfit([f"{FILE} must hold one matrix [tokens, width]"])
    tensors = {MATRIX: matrix}
    tokenizer = folder / "tokenizer" / "tokenizer.json"
    if tokenizer.is_file():
        tensors[TOKENIZER] = torch.frombuffer(bytearray(tokenizer.read_bytes()), dtype=torch.uint8)
    elif tokenizer.parent.is_dir():
        raise Misfit(["the tokenizer has no tokenizer.json: save it again with a fast tokenizer"])
    spec = EmbeddingSpec(matrix.shape[0], matrix.shape[1], TOKENIZER in tensors)
    manifest = Manifest("embedding", made_for(profile), embedding=spec, provenance=Provenance(LIBRARY, ""))
    return Package(manifest, tensors)


def write(package: Package, folder: Path) -> None:
    """Write the matrix and the tokenizer."""
    files.write_tensors(folder / FILE, {"embedding": package.tensors[MATRIX]})
    if TOKENIZER in package.tensors:
        (folder / "tokenizer").mkdir(exist_ok=True)
        (folder / "tokenizer" / "tokenizer.json").write_bytes(package.tensors[TOKENIZER].numpy().tobytes())
