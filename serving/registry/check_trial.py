"""What a package would answer: one forward pass of the real backbone, in the process that reads uploads.

The pass is the library's own. Beside the row with the package runs the same row on the bare backbone, so that an
adapter that changes nothing is seen.
"""

import math
from pathlib import Path
from typing import Self

import numpy as np
from tokenizers import Encoding, Tokenizer
from torch import Tensor

from adapters.backbone import Backbone, Want
from adapters.batch.rows import Row, own_tokens
from adapters.embeddings import token_embedding
from adapters.errors import Misfit
from adapters.formats import native
from adapters.methods.fold import fold
from adapters.weights import Package, alone
from serving.registry.check_answer import word_starts, worded
from serving.registry.inspection import Trial

FUSION = "a fusion runs with what it fuses: put a target over it, and gate the promote of the target"
FOREIGN = "it was made for the vocabulary {!r}, and the backbone's own says nothing of it"
NOT_FINITE = "on the reference input its output is not finite: requests would be refused with engine_failed"


class Trials:
    """Runs packages on one backbone."""

    def __init__(self, folder: Path, backbone: Backbone) -> None:
        self._folder = folder
        self._backbone = backbone

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Trials on the backbone in a folder, on the host and in float32."""
        return cls(folder, Backbone.load(folder))

    def run(self, package: Package, text: str) -> tuple[Trial | None, str]:
        """The trial, or None and why there is none; raises `Misfit` for a text that the backbone can not take."""
        manifest = package.manifest
        if manifest.kind == "fusion":
            return None, FUSION
        if manifest.requires.embedding is not None:
            return None, FOREIGN.format(manifest.requires.embedding)
        tokenizer = self._tokenizer(package)
        encoding = tokenizer.encode(text)
        limit = self._backbone.profile.geometry.max_tokens
        if not 1 <= len(encoding.ids) <= limit:
            raise Misfit([f"the reference input has {len(encoding.ids)} tokens; this backbone takes 1 to {limit}"])
        trial = _tried(self._backbone, package, text, encoding, tokenizer)
        numbers = (trial.norm, trial.change or 0.0, *(trial.answer or {}).values())
        finite = all(math.isfinite(number) for number in numbers if isinstance(number, float))
        return (trial, "") if finite else (None, NOT_FINITE)

    def _tokenizer(self, package: Package) -> Tokenizer:
        """The package's own where it brings a vocabulary, else the backbone's."""
        held = package.tensors.get(native.TOKENIZER)
        data = (self._folder / "tokenizer.json").read_bytes() if held is None else held.numpy().tobytes()
        tokenizer = Tokenizer.from_buffer(data)
        tokenizer.no_truncation()
        tokenizer.no_padding()
        return tokenizer


def _tried(backbone: Backbone, package: Package, text: str, encoding: Encoding, tokenizer: Tokenizer) -> Trial:
    """The row with the package; where it acts on states, the same row without; its head: in one pass."""
    manifest, head = package.manifest, package.manifest.head
    embedding = token_embedding(package, backbone.dtype) if manifest.kind == "embedding" else None
    held = None if embedding else alone(fold(package, backbone.profile, backbone.dtype, backbone.base_maps))
    members = (held,) if held is not None and manifest.kind == "adapter" else ()
    ids = np.asarray(encoding.ids, np.int64)
    types = np.asarray(encoding.type_ids, np.int64) if backbone.profile.geometry.type_vocabulary > 1 else None
    row = Row(members, None, embedding, ids, types)
    rows, wants = [row, Row((), None, embedding, ids, types)], list[Want](["hidden_state", "hidden_state"])
    if head is not None:
        starts = word_starts(encoding) if head.type == "dependency_parsing" else None
        rows.append(Row(members, held, None, ids, types, word_starts=starts))
        wants.append("logits")
    outputs = backbone.run(rows, wants)
    own = own_tokens(row)
    states = outputs[0][own]
    answer = None
    if head is not None:
        per_token = head.pooling == "tokens" and head.type != "dependency_parsing"
        logits = outputs[2][own] if per_token else outputs[2]
        answer = worded(head, logits.numpy(), encoding, tokenizer, text)
    change = _change(states, outputs[1]) if members else None
    return Trial(text, len(ids), float(states.norm(dim=-1).mean()), change, answer)


def _change(states: Tensor, bare: Tensor) -> float:
    """|h' - h| / |h| over all tokens of the text."""
    return float((states - bare).norm() / bare.norm())
