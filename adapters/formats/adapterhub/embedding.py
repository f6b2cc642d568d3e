"""A vocabulary's folder: one matrix, and its tokenizer, if it has one.

AdapterHub saves the matrix as a pickle, `embedding.pt`, and loads nothing else. It is written here and never read:
`embedding.safetensors` stands beside it, which the converter makes where there is a pickle only.
"""

import json
from collections.abc import Mapping
from pathlib import Path

import torch

from adapters.architectures.profile import BackboneProfile
from adapters.embeddings import MATRIX, TOKENIZER
from adapters.errors import Misfit
from adapters.formats import files
from adapters.formats.adapterhub.envelope import LIBRARY, made_for
from adapters.manifest import EmbeddingSpec, Manifest, Provenance
from adapters.weights import Package

FILE = "embedding.safetensors"
_ROLES: Mapping[str, tuple[str, str]] = {  # what special tokens are called; tokenizer.json does not say what for
    "cls_token": ("[CLS]", "<s>"),
    "mask_token": ("[MASK]", "<mask>"),
    "pad_token": ("[PAD]", "<pad>"),
    "sep_token": ("[SEP]", "</s>"),
    "unk_token": ("[UNK]", "<unk>"),
}
_TOKENIZER_FILES = (".json", ".txt", ".model", ".jinja", ".spm", ".codes")  # what transformers saves of any class


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
    """Write the matrix, in both forms, and the tokenizer. AdapterHub's `load_embeddings` knows the pickle alone.

    The tokenizer of an older save goes, or this matrix would be read with it; raises `Misfit` for any other folder there.
    """
    _clear_tokenizer(folder)
    matrix = package.tensors[MATRIX].detach().clone().contiguous()
    files.write_tensors(folder / FILE, {"embedding": matrix})
    torch.save(torch.nn.Parameter(matrix, requires_grad=False), folder / files.PICKLED[FILE])
    if TOKENIZER in package.tensors:
        (folder / "tokenizer").mkdir(exist_ok=True)
        data = package.tensors[TOKENIZER].numpy().tobytes()
        (folder / "tokenizer" / "tokenizer.json").write_bytes(data)
        settings = {"tokenizer_class": "PreTrainedTokenizerFast"} | roles(data)
        files.write_json(folder / "tokenizer" / "tokenizer_config.json", settings)


def roles(tokenizer: bytes) -> dict[str, str]:
    """Which special token of a tokenizer.json is for what, in transformers' words, as far as their names say it."""
    added = json.loads(tokenizer).get("added_tokens") or ()
    special = {token["content"] for token in added if token.get("special")}
    found = {role: next((word for word in words if word in special), None) for role, words in _ROLES.items()}
    return {role: word for role, word in found.items() if word}


def _clear_tokenizer(folder: Path) -> None:
    """Remove the tokenizer that an older save left beside its matrix."""
    place = folder / "tokenizer"
    held = sorted(place.iterdir()) if place.is_dir() else []
    strange = [path.name for path in held if path.is_dir() or path.suffix not in _TOKENIZER_FILES]
    if held and (strange or not files.holds(folder, FILE)):
        what = f"{strange[0]!r}, which is of no tokenizer" if strange else "a tokenizer that no embedding came with"
        raise Misfit([f"{place} holds {what}: save the embedding in another folder"])
    for path in held:
        path.unlink()
    if place.is_dir():
        place.rmdir()
