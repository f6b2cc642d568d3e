"""What a package would answer: one forward pass of the real backbone, in the process that reads uploads.

The pass is the library's own. Beside the row with the package runs the same row on the bare backbone, so that an
adapter that changes nothing is seen.
"""

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np
from tokenizers import Encoding, Tokenizer
from torch import Tensor

from adapters.backbone import Backbone, Want
from adapters.batch.rows import Row, image_ids
from adapters.batch.targets import answered_tokens
from adapters.embeddings import token_embedding
from adapters.errors import Misfit
from adapters.formats import native
from adapters.manifest import PER_TOKEN
from adapters.methods.fold import fold
from adapters.weights import Package, alone
from serving.images.preprocessing import read_preprocessing
from serving.images.reference import DRAWN, drawn
from serving.registry.check_answer import Numbers, of_whole, word_starts, worded
from serving.registry.inspection import SAMPLE, Trial

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
        if self._backbone.profile.geometry.image is not None:
            return _finite(self._on_a_picture(package, text))
        tokenizer = self._tokenizer(package)
        encoding = tokenizer.encode(text)
        limit = self._backbone.profile.geometry.max_tokens
        if not 1 <= len(encoding.ids) <= limit:
            raise Misfit([f"the reference input has {len(encoding.ids)} tokens; this backbone takes 1 to {limit}"])
        return _finite(_tried(self._backbone, package, text, encoding, tokenizer))

    def _on_a_picture(self, package: Package, text: str) -> Trial:
        """Images are no words of a query: what is sent may be read by a gate, and a trial has a drawn one."""
        if text != SAMPLE:
            raise Misfit(["this backbone reads images: packages are tried on a drawn one, so give no reference input"])
        geometry = self._backbone.profile.geometry
        pixels = read_preprocessing(self._folder, geometry).numbers(drawn(geometry.image_height, geometry.image_width))
        ids = image_ids(geometry)
        found = _passed(self._backbone, package, Row((), None, None, ids, pixels=pixels), None)
        head = package.manifest.head
        answer = None if head is None or found.logits is None else of_whole(head, found.logits)
        return Trial(DRAWN, len(ids), found.norm, found.change, answer)

    def _tokenizer(self, package: Package) -> Tokenizer:
        """The package's own where it brings a vocabulary, else the backbone's."""
        held = package.tensors.get(native.TOKENIZER)
        data = (self._folder / "tokenizer.json").read_bytes() if held is None else held.numpy().tobytes()
        tokenizer = Tokenizer.from_buffer(data)
        tokenizer.no_truncation()
        tokenizer.no_padding()
        return tokenizer


def _tried(backbone: Backbone, package: Package, text: str, encoding: Encoding, tokenizer: Tokenizer) -> Trial:
    """What the package makes of a text, and its head's answer in words."""
    ids = np.asarray(encoding.ids, np.int64)
    types = np.asarray(encoding.type_ids, np.int64) if backbone.profile.geometry.type_vocabulary > 1 else None
    found = _passed(backbone, package, Row((), None, None, ids, types), word_starts(encoding))
    head = package.manifest.head
    answer = None
    if head is not None and found.logits is not None:
        answer = worded(head, found.logits, encoding, tokenizer, text)
    return Trial(text, len(ids), found.norm, found.change, answer)


@dataclass(frozen=True)
class _Passed:
    """Mean length of the states, how far they moved (None where nothing acts on them), and the head's logits."""

    norm: float
    change: float | None
    logits: Numbers | None


def _passed(backbone: Backbone, package: Package, bare: Row, starts: tuple[int, ...] | None) -> _Passed:
    """The row with the package; where it acts on states, the same row without; its head: in one pass."""
    manifest, head = package.manifest, package.manifest.head
    embedding = token_embedding(package, backbone.dtype) if manifest.kind == "embedding" else None
    held = None if embedding else alone(fold(package, backbone.profile, backbone.dtype, backbone.base_maps))
    members = (held,) if held is not None and manifest.kind == "adapter" else ()
    row = replace(bare, members=members, embedding=embedding)
    rows, wants = [row, replace(bare, embedding=embedding)], list[Want](["hidden_state", "hidden_state"])
    if head is not None:
        words = starts if head.type == "dependency_parsing" else None
        rows.append(replace(bare, members=members, head=held, word_starts=words))
        wants.append("logits")
    outputs = backbone.run(rows, wants)
    geometry = backbone.profile.geometry
    states = outputs[0][answered_tokens(row, geometry, scores=False)]
    logits = None
    if head is not None:
        per_token = head.pooling in PER_TOKEN and head.type != "dependency_parsing"
        own = answered_tokens(rows[2], geometry, scores=True)
        logits = (outputs[2][own] if per_token else outputs[2]).numpy()
    change = _change(states, outputs[1]) if members else None
    return _Passed(float(states.norm(dim=-1).mean()), change, logits)


def _finite(trial: Trial) -> tuple[Trial | None, str]:
    numbers = (trial.norm, trial.change or 0.0, *(trial.answer or {}).values())
    finite = all(math.isfinite(number) for number in numbers if isinstance(number, float))
    return (trial, "") if finite else (None, NOT_FINITE)


def _change(states: Tensor, bare: Tensor) -> float:
    """|h' - h| / |h| over all tokens of the input."""
    return float((states - bare).norm() / bare.norm())
