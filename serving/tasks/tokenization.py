"""Text to token ids, by one `tokenizer.json`, as the row would be tokenized on its own.

The file's own truncation and padding settings are dropped: nothing is cut unless `cut` is called, and rows run unpadded.
"""

import re
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

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
    placed: bool = True  # whether it is known which characters a token came from, and how it is spelt

    @property
    def tokens(self) -> int:
        """How many tokens, special ones included."""
        return len(self.input_ids)

    @property
    def words(self) -> list[str]:
        """The tokens as the vocabulary spells them."""
        assert self.placed, "tokenized without places"
        return list(self.source.tokens)

    @property
    def offsets(self) -> list[tuple[int, int]]:
        """First and last + 1 character of every token; only where they are `placed`."""
        assert self.placed, "tokenized without places"
        return list(self.source.offsets)

    @property
    def own_positions(self) -> tuple[int, ...]:
        """Positions of the tokens that come from the text and were not added around it."""
        return tuple(i for i, special in enumerate(self.source.special_tokens_mask) if not special)

    @property
    def parts(self) -> list[int | None]:
        """Of every token, the text (0) or its pair (1) that it comes from; None for special tokens."""
        return list(self.source.sequence_ids)

    def word_span(self, first: int, last: int, part: int) -> tuple[int, int]:
        """Characters of the words in which two tokens of a part lie, from the first one's start to the last one's end.

        Where the tokenizer knows no words, those of the tokens themselves.
        """
        start, end = self._word(first, part), self._word(last, part)
        if start is None or end is None:
            start, end = self.offsets[first], self.offsets[last]
        return start[0], end[1]

    def _word(self, token: int, part: int) -> tuple[int, int] | None:
        assert self.placed, "tokenized without places"
        word = self.source.token_to_word(token)
        return None if word is None else self.source.word_to_chars(word, part)


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

    def encode(self, texts: Sequence[Text], *, placed: bool = True) -> list[Encoded]:
        """Every text in full; ask `fault` whether this backbone can read it. Without places a sixth less time is taken."""
        given = [item.text if item.pair is None else (item.text, item.pair) for item in texts]
        found = self._whole.encode_batch(given) if placed else self._whole.encode_batch_fast(given)
        return [self._encoded(encoding, placed) for encoding in found]

    def encode_words(self, words: Sequence[str]) -> tuple[Encoded, list[int]]:
        """A sentence of words, each tokenized on its own; and how many tokens each word has."""
        encoding = self._whole.encode(list(words), is_pretokenized=True)
        counts = [0] * len(words)
        for word in encoding.word_ids:
            if word is not None:
                counts[word] += 1
        return self._encoded(encoding), counts

    def cut(self, text: Text, room: int) -> Encoded:
        """The text in at most `room` tokens, special ones included: the longer of a pair loses its last tokens first.

        Raises `Unprocessable` if the special tokens alone fill the room.
        """
        if room <= self.added(pair=text.pair is not None):
            raise Unprocessable(f"{room} tokens have no room for any text", code="too_long")
        return self._encoded(self._cut(text, room, 0, "longest_first"))

    def windows(self, text: Text, room: int, stride: int) -> list[Encoded]:
        """The text (or its pair, if it has one) in windows of at most `room` tokens that share `stride` tokens.

        Special tokens, and a text in front of its pair, stand in every window. The caller has seen to it that more than
        `stride` tokens of it fit.
        """
        first = self._cut(text, room, stride, "only_first" if text.pair is None else "only_second")
        return [self._encoded(encoding) for encoding in (first, *first.overflowing)]

    def added(self, *, pair: bool = False) -> int:
        """How many special tokens a text, or a pair, gets."""
        return self._whole.num_special_tokens_to_add(is_pair=pair)

    @cached_property
    def mask(self) -> tuple[str, int] | None:
        """The vocabulary's mask token and its id: the special token that is called so."""
        for token, added in self._whole.get_added_tokens_decoder().items():
            if added.special and re.sub("[^a-z]", "", added.content.lower()) == "mask":
                return added.content, token
        return None

    @property
    def rows(self) -> int:
        """Rows of the embedding matrix."""
        return self._vocabulary

    @cached_property
    def unknown(self) -> int | None:
        """The id of what the vocabulary can not spell."""
        return self._whole.token_to_id(getattr(self._whole.model, "unk_token", None) or "<unk>")

    @property
    def marks_subwords(self) -> bool:
        """Whether a token tells by its spelling that it goes on with a word (WordPiece's `##`)."""
        return bool(getattr(self._whole.model, "continuing_subword_prefix", None))

    def ids(self, token: str) -> list[int]:
        """The token as the vocabulary spells it, else the tokens of the text, without special ones."""
        known = self._whole.token_to_id(token)
        return [known] if known is not None else list(self._whole.encode(token, add_special_tokens=False).ids)

    def spell(self, tokens: Sequence[str]) -> str:
        """Tokens as one text."""
        decoder = self._whole.decoder
        return " ".join(tokens) if decoder is None else str(decoder.decode(list(tokens)))

    def texts_of(self, rows: Sequence[Sequence[int]], *, special: bool = True) -> list[str]:
        """Rows of token ids as texts, with or without special tokens; other threads run meanwhile."""
        return list(self._whole.decode_batch([list(ids) for ids in rows], skip_special_tokens=not special))

    def token(self, index: int) -> str:
        """One id as the vocabulary spells it."""
        return str(self._whole.id_to_token(index))

    def fault(self, encoded: Encoded) -> str | None:
        """Why these tokens can not go through the backbone, if they can not."""
        if not encoded.tokens:
            return "the text has no tokens"
        if encoded.input_ids.max() >= self._vocabulary:
            return f"the tokenizer gives id {encoded.input_ids.max()}, but the vocabulary has {self._vocabulary} rows"
        if encoded.type_ids is not None and encoded.type_ids.max() >= self._types:
            return f"the tokenizer gives segment {encoded.type_ids.max()}, but the backbone has {self._types}"
        return None

    def _cut(self, text: Text, room: int, stride: int, strategy: str) -> tokenizers.Encoding:
        with self._cutting:  # truncation is a setting of the tokenizer, not of the call
            if self._cutter is None:
                self._cutter = tokenizers.Tokenizer.from_str(self._whole.to_str())
            self._cutter.enable_truncation(room, stride=stride, strategy=strategy)
            return self._cutter.encode(text.text, text.pair)

    def _encoded(self, encoding: tokenizers.Encoding, placed: bool = True) -> Encoded:
        types = encoding.type_ids if self._types > 1 else ()
        sent = np.array(types, np.int32) if any(types) else None
        return Encoded(np.array(encoding.ids, np.int32), sent, encoding, placed)


def _load(tokenizer_json: bytes) -> tokenizers.Tokenizer:
    try:
        tokenizer = tokenizers.Tokenizer.from_str(tokenizer_json.decode())
    except Exception as error:  # the Rust side raises plain Exception
        raise DependencyFailed(f"the tokenizer can not be read: {error}", code="bad_tokenizer") from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer
