"""Text to token ids, by one `tokenizer.json`, as the row would be tokenized on its own.

The file's own truncation and padding settings are dropped: nothing is cut unless `cut` is called, and rows run unpadded.
"""

import threading
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import tokenizers
from numpy.typing import NDArray

from serving.errors import DependencyFailed, Unprocessable


@dataclass(frozen=True, slots=True)
class Text:
    """One input: a text, or a text and its pair."""

    text: str
    pair: str | None = None

    @property
    def characters(self) -> int:
        """Characters of both."""
        return len(self.text) + len(self.pair or "")


@dataclass(frozen=True, slots=True)
class Encoded:
    """One tokenized input. `offsets` are characters of the text that a token came from; special tokens have none."""

    input_ids: NDArray[np.int32]  # [tokens]
    type_ids: NDArray[np.int32] | None  # [tokens]; None is all zero
    source: tokenizers.Encoding

    @property
    def tokens(self) -> int:
        """How many tokens, special ones included."""
        return len(self.input_ids)

    @property
    def words(self) -> list[str]:
        """The tokens as the vocabulary spells them."""
        return list(self.source.tokens)

    @property
    def offsets(self) -> list[tuple[int, int]]:
        """First and last + 1 character of every token."""
        return list(self.source.offsets)

    @property
    def own_positions(self) -> tuple[int, ...]:
        """Positions of the tokens that come from the text and were not added around it."""
        return tuple(i for i, special in enumerate(self.source.special_tokens_mask) if not special)


class Tokenizer:
    """One vocabulary's tokenizer, safe to use from several threads.

    `vocabulary` is the number of rows of the embedding matrix, `types` that of segment ids (at most 1: none are sent).
    Raises `DependencyFailed` if the bytes are no tokenizer.
    """

    def __init__(self, tokenizer_json: bytes, *, vocabulary: int, types: int) -> None:
        self._whole = _load(tokenizer_json)
        self._vocabulary = vocabulary
        self._types = types
        self._cutting = threading.Lock()
        self._cutter: tokenizers.Tokenizer | None = None

    def encode(self, texts: Sequence[Text]) -> list[Encoded]:
        """Every text in full; ask `fault` whether this backbone can read it."""
        found = self._whole.encode_batch([item.text if item.pair is None else (item.text, item.pair) for item in texts])
        return [self._encoded(encoding) for encoding in found]

    def cut(self, text: Text, room: int) -> Encoded:
        """The text in at most `room` tokens, special ones included: the longer of a pair loses its last tokens first.

        Raises `Unprocessable` if the special tokens alone fill the room.
        """
        if room <= self._whole.num_special_tokens_to_add(is_pair=text.pair is not None):
            raise Unprocessable(f"{room} tokens have no room for any text", code="too_long")
        with self._cutting:  # truncation is a setting of the tokenizer, not of the call
            if self._cutter is None:
                self._cutter = tokenizers.Tokenizer.from_str(self._whole.to_str())
            self._cutter.enable_truncation(room)
            return self._encoded(self._cutter.encode(text.text, text.pair))

    def fault(self, encoded: Encoded) -> str | None:
        """Why these tokens can not go through the backbone, if they can not."""
        if not encoded.tokens:
            return "the text has no tokens"
        if encoded.input_ids.max() >= self._vocabulary:
            return f"the tokenizer gives id {encoded.input_ids.max()}, but the vocabulary has {self._vocabulary} rows"
        if encoded.type_ids is not None and encoded.type_ids.max() >= self._types:
            return f"the tokenizer gives segment {encoded.type_ids.max()}, but the backbone has {self._types}"
        return None

    def _encoded(self, encoding: tokenizers.Encoding) -> Encoded:
        types = np.array(encoding.type_ids, np.int32)
        sent = types if self._types > 1 and types.any() else None
        return Encoded(np.array(encoding.ids, np.int32), sent, encoding)


def _load(tokenizer_json: bytes) -> tokenizers.Tokenizer:
    try:
        tokenizer = tokenizers.Tokenizer.from_str(tokenizer_json.decode())
    except Exception as error:  # the Rust side raises plain Exception
        raise DependencyFailed(f"the tokenizer can not be read: {error}", code="bad_tokenizer") from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer
