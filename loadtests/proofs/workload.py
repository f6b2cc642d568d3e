"""Questions of a realistic size for a real backbone, with answers that are known before they are asked.

Sentences are drawn from the backbone's own vocabulary: one word is one token, so that the length of a row is known.
"""

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from loadtests.proofs.calls import RAW, publish
from loadtests.proofs.fingerprints import Fingerprint, Forge
from loadtests.proofs.stage import StageFailed
from loadtests.proofs.volley import Question

SHORT, LONGEST = 18, 510  # words of a sentence; with two special tokens the longest is all that a model of 512 takes


def sentences(backbone: Path, count: int, words: int, seed: int) -> tuple[str, ...]:
    """Sentences of so many whole words each."""
    vocabulary: Mapping[str, int] = json.loads((backbone / "tokenizer.json").read_text())["model"]["vocab"]
    whole = sorted(
        word for word in vocabulary if word.isascii() and word.isalpha() and word.islower() and len(word) > 3
    )
    dice = random.Random(f"{seed}/{words}")
    return tuple(" ".join(dice.choices(whole, k=words)) for _ in range(count))


@dataclass(frozen=True, eq=False)
class Asker:
    """A tenant's adapters: it makes them, publishes them, and asks them."""

    forge: Forge
    key: str
    adapters: Mapping[str, Fingerprint]

    @classmethod
    def of(cls, forge: Forge, tenant: str, key: str, count: int) -> "Asker":
        """So many adapters of one tenant."""
        return cls(forge, key, {f"{tenant}-{number}": forge.make(f"{tenant}-{number}") for number in range(count)})

    async def publish(self, session: aiohttp.ClientSession) -> None:
        """Publish all of them; raises `StageFailed`."""
        for name, made in self.adapters.items():
            told = await publish(session, name, made.data)
            if not told.ok:
                raise StageFailed(f"{name}: {told.why}")

    def questions(self, rows: int, timeout_ms: int) -> tuple[Question, ...]:
        """One question for each adapter: so many rows, all of the same length."""
        made = []
        for number, (name, fingerprint) in enumerate(self.adapters.items()):
            texts = [(number + row) % len(self.forge.texts) for row in range(rows)]
            made.append(self._question(name, fingerprint, texts, timeout_ms))
        return tuple(made)

    def _question(self, name: str, made: Fingerprint, texts: Sequence[int], timeout_ms: int) -> Question:
        asked = [self.forge.texts[text] for text in texts]
        body = {"inputs": asked, "adapters": [name], "parameters": RAW, "timeout_ms": timeout_ms}
        logits = tuple(tuple(map(float, made.logits[text])) for text in texts)
        return Question("/v1/predict", self.key, json.dumps(body), made.digest, logits)
