"""The first answer of a head in words, as a dry run tells it; the service's own answers are worded by its tasks."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Encoding, Tokenizer

from adapters.manifest import HeadSpec

Numbers = NDArray[np.float32]


def word_starts(encoding: Encoding) -> tuple[int, ...]:
    """First token of every word, and one past the last word; a text without words counts as one."""
    words = [(place, word) for place, word in enumerate(encoding.word_ids) if word is not None]
    if not words:
        return (0, len(encoding.ids))
    starts = [place for i, (place, word) in enumerate(words) if i == 0 or words[i - 1][1] != word]
    return (*starts, words[-1][0] + 1)


def worded(
    head: HeadSpec, logits: Numbers, encoding: Encoding, tokenizer: Tokenizer, text: str
) -> Mapping[str, str | float | int]:
    """The best label, word, span, token or arc; logits are those of the text's own tokens."""
    first = word_starts(encoding)[0]
    match head.problem_type:
        case "token":
            return {"word": encoding.tokens[first], **_best(head.labels, _softmax(logits[first]))}
        case "span":
            start = int(logits[:, 0].argmax())
            end = start + int(logits[start:, 1].argmax())
            return {"answer": text[encoding.offsets[start][0] : encoding.offsets[end][1]]}
        case "vocabulary":
            best = tokenizer.id_to_token(int(logits[first].argmax()))
            return {"word": encoding.tokens[first], "token_str": best or ""}
        case "next_token":
            return {"word": encoding.tokens[-1], "token_str": tokenizer.id_to_token(int(logits[-1].argmax())) or ""}
        case "tree":
            arc = int(logits[0, :, 0].argmax())
            return {"head": arc, "relation": head.labels[int(logits[0, arc, 1:].argmax())]}
    return of_whole(head, logits)


def of_whole(head: HeadSpec, logits: Numbers) -> Mapping[str, str | float | int]:
    """The best label, or the value, of a head that answers for the input as a whole."""
    match head.problem_type:
        case "regression" | "choice":
            return {"value": float(logits.reshape(-1)[0])}
        case "multi_label":
            return _best(head.labels, (1 / (1 + np.exp(-logits))).astype(np.float32))
    return _best(head.labels, _softmax(logits))


def _best(labels: tuple[str, ...], scores: Numbers) -> dict[str, Any]:
    place = int(scores.argmax())
    return {"label": labels[place], "score": round(float(scores[place]), 6)}


def _softmax(logits: Numbers) -> Numbers:
    raised = np.exp(logits - logits.max())
    scores: Numbers = raised / raised.sum()
    return scores
