"""A tenant's tokenizer.json as data: components from an allow-list, and ids that its matrix has rows for.

A regular expression of the tenant's own could run for ever on a short text, so patterns are plain strings, or one of
the few expressions that conversions of public tokenizers write.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from tokenizers import Tokenizer

MAX_BYTES = 64 << 20
KNOWN_REGEXES = frozenset({" {2,}", "\\s+", "[\\r\\n]"})
ALLOWED: Mapping[str, frozenset[str]] = {
    "normalizer": frozenset(
        (
            "BertNormalizer",
            "Lowercase",
            "NFC",
            "NFD",
            "NFKC",
            "NFKD",
            "Nmt",
            "Strip",
            "StripAccents",
            "Prepend",
            "Replace",
            "Precompiled",
            "ByteLevel",
            "Sequence",
        )
    ),
    "pre_tokenizer": frozenset(
        (
            "BertPreTokenizer",
            "ByteLevel",
            "CharDelimiterSplit",
            "Digits",
            "Metaspace",
            "Punctuation",
            "Split",
            "UnicodeScripts",
            "Whitespace",
            "WhitespaceSplit",
            "Sequence",
        )
    ),
    "model": frozenset(("WordPiece", "BPE", "Unigram", "WordLevel")),
    "post_processor": frozenset(("BertProcessing", "RobertaProcessing", "TemplateProcessing", "ByteLevel", "Sequence")),
    "decoder": frozenset(
        (
            "WordPiece",
            "ByteLevel",
            "Metaspace",
            "BPEDecoder",
            "ByteFallback",
            "Fuse",
            "Strip",
            "Replace",
            "CTC",
            "Sequence",
        )
    ),
}
_MEMBERS = frozenset((*ALLOWED, "version", "truncation", "padding", "added_tokens"))
_CHILDREN = ("normalizers", "pretokenizers", "processors", "decoders")


def faults(data: bytes, rows: int) -> list[str]:
    """Everything that keeps a tokenizer from being used with a matrix of so many rows."""
    if len(data) > MAX_BYTES:
        return [f"the tokenizer has {len(data)} bytes; at most {MAX_BYTES} are allowed"]
    try:
        value = json.loads(data.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        return [f"the tokenizer is not JSON: {error}"]
    if not isinstance(value, dict) or not isinstance(value.get("model"), dict):
        return ["the tokenizer is no tokenizer.json: it has no model"]
    reasons = [f"the tokenizer has an unknown member {key!r}" for key in sorted(set(value) - _MEMBERS)]
    try:
        for member in ALLOWED:
            reasons += _components(member, value.get(member))
        if reasons:
            return reasons
        highest = max(_ids(value), default=-1)
    except (TypeError, ValueError, AttributeError, LookupError, RecursionError) as error:
        return [f"the tokenizer.json is malformed: {error}"]
    if highest >= rows:
        return [f"the tokenizer gives ids up to {highest}, but the matrix has only {rows} rows"]
    return _loads(data)


def _components(member: str, value: Any) -> list[str]:
    if value is None:
        return []
    if not isinstance(value, dict):
        return [f"the tokenizer's {member} is no object"]
    # A model may leave its type out; the library then guesses, which a service must not.
    kind = value.get("type")
    if kind not in ALLOWED[member]:
        return [f"the tokenizer's {member} {kind!r} is not allowed"]
    reasons = []
    pattern = value.get("pattern")
    if isinstance(pattern, dict) and set(pattern) != {"String"} and pattern.get("Regex") not in KNOWN_REGEXES:
        reasons.append(f"the tokenizer's {member} {kind!r} has a regular expression of its own, which is not allowed")
    for child in (child for name in _CHILDREN for child in _list(value.get(name))):
        reasons += _components(member, child)
    return reasons


def _ids(value: Mapping[str, Any]) -> Iterator[int]:
    vocabulary = value["model"]["vocab"]
    if isinstance(vocabulary, list):
        yield len(vocabulary) - 1
    else:
        yield from (_id(number) for number in vocabulary.values())
    yield from (_id(token["id"]) for token in _list(value.get("added_tokens")))
    yield from _special_ids(value.get("post_processor"))


def _special_ids(processor: Any) -> Iterator[int]:
    if not isinstance(processor, dict):
        return
    for token in ("sep", "cls"):
        if processor.get(token) is not None:
            yield _id(processor[token][1])
    for special in (processor.get("special_tokens") or {}).values():
        yield from (_id(number) for number in special["ids"])
    for child in _list(processor.get("processors")):
        yield from _special_ids(child)


def _loads(data: bytes) -> list[str]:
    try:
        Tokenizer.from_buffer(data).encode("a b")
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # the library is Rust: it panics with an exception of its own kind
        return [f"the tokenizer can not be used: {str(error)[:300]}"]
    return []


def _id(number: Any) -> int:
    if not isinstance(number, int) or isinstance(number, bool) or number < 0:
        raise ValueError(f"{number!r} is no token id")
    return number


def _list(value: Any) -> list[Any]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise TypeError("a list was expected")
    return value
