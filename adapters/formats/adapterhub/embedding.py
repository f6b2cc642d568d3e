"""A vocabulary's folder: one matrix, and its tokenizer, if it has one.

AdapterHub saves the matrix as a pickle, `embedding.pt`, and loads nothing else. It is written here and never read:
`embedding.safetensors` stands beside it, which the converter makes where there is a pickle only.
"""

import json
from collections.abc import Mapping
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
_ROLES: Mapping[str, tuple[str, str]] = {  # what special tokens are called; tokenizer.json does not say what for
    "cls_token": ("[CLS]", "<s>"),
    "mask_token": ("[MASK]", "<mask>"),
    "pad_token": ("[PAD]", "<pad>"),
    "sep_token": ("[SEP]", "</s>"),
    "unk_token": ("[UNK]", "<unk>"),
}


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
    """Write the matrix, in both forms, and the tokenizer. AdapterHub's `load_embeddings` knows the pickle alone."""
    matrix = package.tensors[MATRIX].detach().clone().contiguous()
    files.write_tensors(folder / FILE, {"embedding": matrix})
    torch.save(torch.nn.Parameter(matrix, requires_grad=False), folder / files.PICKLED[FILE])
    if TOKENIZER in package.tensors:
        (folder / "tokenizer").mkdir(exist_ok=True)
        data = package.tensors[TOKENIZER].numpy().tobytes()
        (folder / "tokenizer" / "tokenizer.json").write_bytes(data)
        files.write_json(folder / "tokenizer" / "tokenizer_config.json", _settings(data))


def _settings(tokenizer: bytes) -> dict[str, str]:
    """What transformers' `AutoTokenizer` asks for beside tokenizer.json: its class, and which token is for what."""
    added = json.loads(tokenizer).get("added_tokens") or ()
    special = {token["content"] for token in added if token.get("special")}
    found = {role: next((word for word in words if word in special), None) for role, words in _ROLES.items()}
    return {"tokenizer_class": "PreTrainedTokenizerFast"} | {role: word for role, word in found.items() if word}
