"""From scored tokens to entities: words that hold together, `B-` and `I-` tags made one span, windows made one text.

The rules are those of transformers' token classification pipeline, so that its clients see the entities they know.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from serving.tasks.task import Aggregation, Scores
from serving.tasks.tokenization import Encoded, Tokenizer


@dataclass(frozen=True, slots=True)
class Token:
    """A token (or a whole word) of the text: its spelling, a score per label, the characters that it covers."""

    word: str
    scores: Scores
    start: int
    end: int
    goes_on: bool = False  # with the word of the token before


@dataclass(frozen=True, slots=True)
class Tagged:
    """A word with its label."""

    word: str
    label: str
    score: float
    start: int
    end: int

    @property
    def tag(self) -> str:
        """The label without `B-` or `I-`."""
        return self.label[2:] if self.label.startswith(("B-", "I-")) else self.label


def tokens_of(text: str, row: Encoded, scores: Scores, tokenizer: Tokenizer) -> list[Token]:
    """The text's own tokens in a row, with their scores [own tokens, labels].

    A token goes on with a word where its spelling says so (it is longer than the text that it covers: `##able`), or,
    for vocabularies that do not mark it, where no space comes before it. Unknown tokens are spelled as in the text.
    """
    found = []
    words, offsets = row.words, row.offsets
    for position, values in zip(row.own_positions, scores, strict=True):
        start, end = offsets[position]
        word, covered = words[position], text[start:end]
        goes_on = len(word) != len(covered) if tokenizer.marks_subwords else _glued(text, start)
        if int(row.input_ids[position]) == tokenizer.unknown:
            word, goes_on = covered, False
        found.append(Token(word, values, start, end, goes_on))
    return found


def entities(
    tokens: Sequence[Token], labels: Sequence[str], strategy: Aggregation, tokenizer: Tokenizer
) -> list[dict[str, Any]]:
    """`[{"entity_group", "score", "word", "start", "end"}]`: neighbours with one tag are one entity.

    "simple" tags each token by itself; the others tag whole words: by their first token, by the token that is surest,
    or by the mean of their tokens' scores.
    """
    if strategy == "simple":
        tagged = [_tagged([token], token.scores, labels, token.word) for token in tokens]
    else:
        tagged = [
            _tagged(word, _verdict(word, strategy), labels, tokenizer.spell([token.word for token in word]))
            for word in _words(tokens)
        ]
    return [
        {
            "entity_group": group[0].label.split("-", 1)[-1],
            "score": float(np.mean([item.score for item in group])),
            "word": tokenizer.spell([item.word for item in group]),
            "start": group[0].start,
            "end": group[-1].end,
        }
        for group in _groups(tagged)
    ]


def without_overlaps(found: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Entities of windows that overlap: of those that touch the same characters the longest stays, then the surest."""
    kept: list[dict[str, Any]] = []
    for entity in sorted(found, key=lambda item: item["start"]):
        if kept and kept[-1]["start"] <= entity["start"] < kept[-1]["end"]:
            if _weight(entity) > _weight(kept[-1]):
                kept[-1] = entity
        else:
            kept.append(entity)
    return kept


def _weight(entity: dict[str, Any]) -> tuple[int, float]:
    return entity["end"] - entity["start"], entity["score"]


def _glued(text: str, start: int) -> bool:
    return start > 0 and " " not in text[start - 1 : start + 1]


def _words(tokens: Sequence[Token]) -> Iterator[list[Token]]:
    word: list[Token] = []
    for token in tokens:
        if word and not token.goes_on:
            yield word
            word = []
        word.append(token)
    if word:
        yield word


def _verdict(word: Sequence[Token], strategy: Aggregation) -> Scores:
    if strategy == "first":
        return word[0].scores
    if strategy == "max":
        return max((token.scores for token in word), key=lambda values: float(values.max()))
    return np.asarray(np.mean([token.scores for token in word], axis=0))


def _tagged(tokens: Sequence[Token], scores: Scores, labels: Sequence[str], word: str) -> Tagged:
    best = int(scores.argmax())
    return Tagged(word, labels[best], float(scores[best]), tokens[0].start, tokens[-1].end)


def _groups(tagged: Sequence[Tagged]) -> Iterator[list[Tagged]]:
    group: list[Tagged] = []
    for item in tagged:
        if group and (item.tag != group[-1].tag or item.label.startswith("B-")):
            yield group
            group = []
        group.append(item)
    if group:
        yield group
