"""The adapters of a run, and what they answer: computed by the library, here, in another process than the one that serves.

An answer that is nobody's is as wrong as somebody else's, so every answer is compared with numbers that are known before;
two adapters whose answers are too near each other would make that comparison worthless, and are refused.
"""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tokenizers
import torch
from numpy.typing import NDArray

from adapters.architectures.profile import BackboneProfile
from adapters.backbone import Backbone
from adapters.batch.rows import Row
from adapters.formats import native
from adapters.methods.fold import fold
from adapters.weights import ALIGN, Resident, alone
from loadtests.client.plan import Known
from loadtests.scenarios.values import Adapters, Tenant
from loadtests.synthetic import CONFIGS, lora, make_package
from loadtests.traffic.texts import POOL, share

LABELS = 8  # so many that answers of thousands of adapters keep apart
COMMON = POOL // 2  # the text that all are asked about before the load, to see that they can be told apart
Logits = NDArray[np.float64]


class TooAlike(Exception):
    """Two adapters answer so much alike that a mix-up would not show."""


@dataclass(frozen=True)
class Made:
    """One adapter ready to publish: whose, its file, and the texts it is asked about (of the pool)."""

    tenant: int
    name: str
    method: str
    digest: str
    labels: tuple[str, ...]
    path: Path
    texts: tuple[int, ...]


def make(
    profile: BackboneProfile,
    wanted: Adapters,
    tenants: Sequence[Tenant],
    seed: int,
    folder: Path,
    tell: Callable[[int, int], None],
) -> tuple[Made, ...]:
    """All adapters of all tenants, tenant by tenant; written into `folder`. The same arguments give the same bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    made = []
    for (number, tenant), index in itertools.product(enumerate(tenants), range(wanted.count)):
        method = wanted.methods[index % len(wanted.methods)]
        name = f"load-{tenant.name}-{seed}-{index:05d}"
        labels = tuple(f"{name}.{label}" for label in range(LABELS))
        rank = wanted.ranks[index // len(wanted.methods) % len(wanted.ranks)]
        config = lora(profile.geometry, rank) if method == "lora" else CONFIGS[method](profile.geometry)
        data = native.write(make_package(profile, method, name, seed, labels=labels, config=config))
        path = folder / f"{name}.safetensors"
        path.write_bytes(data)
        texts = share(wanted.texts_of(index), np.random.default_rng([seed, 4, number, index]))
        made.append(Made(number, name, method, native.digest(data), labels, path, texts))
        tell(len(made), wanted.count * len(tenants))
    return tuple(made)


class Library:
    """The backbone in this process: what adapters take, and what they answer."""

    def __init__(self, backbone: Path) -> None:
        self._backbone = Backbone.load(backbone)
        self._tokenizer = tokenizers.Tokenizer.from_file(str(backbone / "tokenizer.json"))
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()

    @property
    def profile(self) -> BackboneProfile:
        """Of the backbone."""
        return self._backbone.profile

    def slot_bytes(self, made: Sequence[Made], dtype: str) -> float:
        """What one of these adapters takes on the device, on average of the first few."""
        flats = [self._resident(one, getattr(torch, dtype)).adapter.flat for one in made[:16]]
        return float(np.mean([-(-flat.numel() // ALIGN) * ALIGN * flat.element_size() for flat in flats]))

    def compute(
        self, made: Sequence[Made], texts: Sequence[str], tell: Callable[[int, int], None]
    ) -> tuple[tuple[Known, ...], Logits]:
        """In float32, what each adapter answers to each of its texts, and what all of them answer to one and the same [n, labels]."""
        ids = [np.array(self._tokenizer.encode(text).ids, np.int64) for text in texts]
        found, common = [], []
        for done, one in enumerate(made):
            held = self._resident(one, torch.float32)
            rows = [Row((held,), held, None, ids[text]) for text in (*one.texts, COMMON)]
            answers = self._backbone.run(rows, ["logits"] * len(rows))  # one adapter alone: nothing is mixed here
            *own, shared = (tuple(map(float, logits)) for logits in answers)
            found.append(known(one, own))
            common.append(shared)
            tell(done + 1, len(made))
        return tuple(found), np.array(common)

    def _resident(self, one: Made, dtype: torch.dtype) -> Resident:
        with torch.no_grad():
            return alone(fold(native.read(one.path), self._backbone.profile, dtype, self._backbone.base_maps))


def known(one: Made, logits: Sequence[Sequence[float]]) -> Known:
    """What is known of one adapter."""
    return Known(one.tenant, one.name, one.digest, one.labels, one.texts, tuple(map(tuple, logits)))


def nearest(common: Logits, tolerance: float) -> float:
    """How near the two adapters are that answer one text most alike: the largest of the distances of their logits.

    Raises `TooAlike` where that is less than twice the tolerance, so that one could be taken for the other.
    """
    least = float("inf")
    for number in range(1, len(common)):
        least = min(least, float(np.abs(common[:number] - common[number]).max(axis=1).min()))
    if least <= 2 * tolerance:
        raise TooAlike(
            f"two of {len(common)} adapters answer within {least:.2g} of each other, and answers may be off by "
            f"{tolerance:g}: a mix-up would not show. Take fewer adapters, or a smaller --tolerance"
        )
    return least
