"""What is asked about: sentences of everyday words, of so many tokens as the scenario says.

How many tokens a word has is the tokenizer's affair: each is measured, and sentences are put together by it.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from loadtests.scenarios.values import Lengths

_TEXT = """
    river market doctor garden window engine letter mountain bread harbour kitchen stone song ticket valley village
    paints closes repairs finds carries opens buys sells writes quietly slowly often never always bright small green
    loud because although without near under behind between seven twelve morning winter night summer
"""
WORDS = tuple(_TEXT.split())
POOL = 256  # different sentences of a run
SPARE = 4  # tokens that the longest row leaves for prompts


@dataclass(frozen=True)
class Tokens:
    """What the served tokenizer makes of `WORDS`: tokens of each, tokens that every row has beside them, the longest row."""

    each: tuple[int, ...]
    special: int
    longest: int

    @property
    def per_word(self) -> float:
        """Tokens of a word, on average."""
        return sum(self.each) / len(self.each)

    @classmethod
    def of(cls, lengths: Callable[[str], int], longest: int) -> "Tokens":
        """By the lengths of rows: each word is measured behind another one, as it will stand."""
        one, two = (lengths(text) for text in (WORDS[0], f"{WORDS[0]} {WORDS[0]}"))
        each = tuple(max(1, lengths(f"{WORDS[0]} {word}") - one) for word in WORDS)
        return cls(each, max(0, one - (two - one)), longest - SPARE)


@dataclass(frozen=True)
class Pool:
    """The sentences of a run, shortest first; `cut` of them would have been longer than the backbone takes."""

    texts: tuple[str, ...]
    cut: int


def lengths(law: Lengths, count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Tokens of so many rows, between the law's ends."""
    match law.law:
        case "lognormal":
            drawn = law.shift + rng.lognormal(np.log(law.mean) - law.sigma**2 / 2, law.sigma, size=count)
        case "uniform":
            drawn = rng.integers(law.lowest, law.highest + 1, size=count).astype(np.float64)
        case "fixed":
            drawn = np.full(count, law.mean)
    return np.clip(np.round(drawn), law.lowest, law.highest).astype(np.int64)


def make_pool(law: Lengths, tokens: Tokens, seed: int) -> Pool:
    """Draw the sentences."""
    rng = np.random.default_rng([seed, 1])
    drawn = np.sort(lengths(law, POOL, rng))
    kept = np.minimum(drawn, tokens.longest)
    texts = tuple(_text(int(length), tokens, rng) for length in kept)
    return Pool(texts, int((drawn > tokens.longest).sum()))


def _text(length: int, tokens: Tokens, rng: np.random.Generator) -> str:
    """Words until no more fit into the length; one at least."""
    drawn = rng.integers(len(WORDS), size=length)
    ends = np.cumsum(np.array(tokens.each)[drawn])
    fitting = max(1, int((ends <= length - tokens.special).sum()))
    return " ".join(WORDS[number] for number in drawn[:fitting])


def share(each: int, rng: np.random.Generator) -> tuple[int, ...]:
    """Which sentences of the pool an adapter is asked about: short and long ones alike for all adapters."""
    return tuple(int((number + shift) * POOL / each) for shift in (rng.random(),) for number in range(each))
