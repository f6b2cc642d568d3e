"""Adapters whose answers tell who they are: whose, under which name, in which version.

All have the same labels. What tells them apart is arithmetic: the logits that the library computes for each of them, here,
in another process than the one that serves it. An answer that nobody's logits explain is as wrong as somebody else's.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers
import torch
from numpy.typing import NDArray

from adapters.backbone import Backbone
from adapters.batch.rows import Row
from adapters.formats import native
from adapters.methods.fold import fold
from adapters.weights import ALIGN, alone
from loadtests.synthetic import make_package

LABELS = tuple(f"output-{k}" for k in range(8))
METHODS = ("lora", "bottleneck", "ia3", "prefix_tuning")
TOLERANCE = 1e-4  # absolute, on raw logits: float32 in another order of summation
Logits = NDArray[np.float32]  # [texts, labels]


@dataclass(frozen=True, order=True)
class Identity:
    """Who an answer is from."""

    tenant: str
    name: str
    version: int

    def __str__(self) -> str:
        return f"{self.tenant}:{self.name}@{self.version}"


@dataclass(frozen=True, eq=False)
class Fingerprint:
    """A package ready to publish, and what it answers to each text."""

    data: bytes
    digest: str
    logits: Logits
    slot_bytes: int  # on the device


class Forge:
    """Makes fingerprints for one backbone. Computes on one thread of this process; not for several threads."""

    def __init__(self, backbone: Path, texts: Sequence[str], seed: int) -> None:
        self._backbone = Backbone.load(backbone)
        self._seed = seed
        tokenizer = tokenizers.Tokenizer.from_file(str(backbone / "tokenizer.json"))
        tokenizer.no_truncation()
        tokenizer.no_padding()
        self.texts = tuple(texts)
        self._ids = [np.array(tokenizer.encode(text).ids, np.int64) for text in texts]

    @property
    def profile(self) -> Any:
        """Of the backbone."""
        return self._backbone.profile

    def ids(self, text: int) -> tuple[int, ...]:
        """The token ids of a text."""
        return tuple(map(int, self._ids[text]))

    def make(self, mark: str, method: str = METHODS[0], config: Mapping[str, Any] | None = None) -> Fingerprint:
        """The fingerprint of a mark: the same mark gives the same bytes, another one other weights everywhere."""
        profile = self._backbone.profile
        package = make_package(profile, method, mark, self._seed, labels=LABELS, config=config)
        with torch.no_grad():
            held = alone(fold(package, profile, torch.float32, self._backbone.base_maps))
        rows = [Row((held,), held, None, ids) for ids in self._ids]
        logits = np.stack([row.numpy() for row in self._backbone.run(rows, ["logits"] * len(rows))])
        data = native.write(package)
        slot = -(-held.adapter.flat.numel() // ALIGN) * ALIGN * held.adapter.flat.element_size()
        return Fingerprint(data, native.digest(data), logits.astype(np.float32), slot)


class Book:
    """Who answers what: from logits back to the identity."""

    def __init__(self, tolerance: float = TOLERANCE) -> None:
        self._tolerance = tolerance
        self._who: dict[Identity, int] = {}
        self._known: list[Identity] = []
        self._logits: Logits = np.zeros((0, 0, 0), np.float32)  # [room, texts, labels]: doubled when it is full

    def __len__(self) -> int:
        return len(self._known)

    def enter(self, identity: Identity, logits: Logits) -> None:
        """Remember who answers so; raises `ValueError` where somebody else's answer to some text is too near."""
        if identity in self._who:
            raise ValueError(f"{identity} is in the book")
        for text in range(len(logits)):
            if near := self._near(text, logits[text], 2 * self._tolerance):
                raise ValueError(f"{identity} and {near[0]} answer alike: a mix-up would not show")
        count = len(self._known)
        if count == len(self._logits):
            grown = np.zeros((max(64, 2 * count), *logits.shape), np.float32)
            grown[:count] = self._logits if count else 0.0
            self._logits = grown
        self._logits[count] = logits
        self._known.append(identity)
        self._who[identity] = count

    def read(self, text: int, scores: Sequence[float]) -> Identity | None:
        """Whose answer to a text this is; None where it is nobody's."""
        found = self._near(text, np.asarray(scores, np.float32), self._tolerance)
        return found[0] if found else None  # at most one: `enter` keeps them apart

    def _near(self, text: int, scores: Logits, tolerance: float) -> list[Identity]:
        held = self._logits[: len(self._known), text] if self._known else np.zeros((0, len(scores)), np.float32)
        if held.shape[1:] != scores.shape:
            return []
        close = np.abs(held - scores).max(axis=1, initial=0.0) <= tolerance  # false for NaN
        return [self._known[number] for number in np.flatnonzero(close)]
