"""Token embeddings: named vocabularies, chosen per row. Their matrices stay in host memory and are gathered there."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from adapters.errors import InvalidPackage, InvalidRow
from adapters.manifest import Manifest
from adapters.weights import Package

MATRIX = "embedding/matrix/weight"
TOKENIZER = "embedding/tokenizer/bytes"


@dataclass(frozen=True, eq=False)
class TokenEmbedding:
    """One vocabulary: matrix [tokens, width] on the host, and the bytes of its `tokenizer.json`, if it brought one."""

    manifest: Manifest
    matrix: Tensor
    tokenizer_json: bytes | None
    flat: None = None  # nothing of it goes into the device arena

    @property
    def nbytes(self) -> int:
        """Bytes in the host tier."""
        return self.matrix.numel() * self.matrix.element_size() + len(self.tokenizer_json or b"")


def token_embedding(package: Package, dtype: torch.dtype) -> TokenEmbedding:
    """The vocabulary in a package of kind `embedding`; raises `InvalidPackage`."""
    if MATRIX not in package.tensors:
        raise InvalidPackage(f"the package holds no {MATRIX}")
    held = package.tensors.get(TOKENIZER)
    text = None if held is None else bytes(held.numpy().tobytes())
    return TokenEmbedding(package.manifest, package.tensors[MATRIX].to(dtype).contiguous(), text)


def look_up(matrix: Tensor, ids: Sequence[NDArray[np.int64]]) -> Tensor:
    """Word vectors [tokens, width] of several rows under one matrix; raises `InvalidRow` for ids outside of it."""
    flat = np.concatenate(ids)
    if flat.size and (int(flat.min()) < 0 or int(flat.max()) >= matrix.shape[0]):
        raise InvalidRow(f"a token id is outside of the vocabulary of {matrix.shape[0]}")
    return functional.embedding(torch.from_numpy(flat), matrix)
