"""A tenant's tokenizer.json as data: components from an allow-list, and ids that its matrix has rows for.

A regular expression of the tenant's own could run for ever on a short text, so patterns are plain strings, or one of
the few expressions that conversions of public tokenizers write. What a text can grow to is bounded as well
(`tokenizer_growth`), and so is whatever the tokenizer adds to it, or fails on: a gateway runs it for everyone.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from tokenizers import Tokenizer

from adapters.formats import tokenizer_growth

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
_PROBES = ("a b", "\u16a0\ua66e", "\U00012000 \U00010380\U0001f9ff")  # plain, and what few vocabularies can spell
_MEMBERS = frozenset((*ALLOWED, "version", "truncation", "padding", "added_tokens"))
MAX_TOKEN = 1024  # characters: an answer spells tokens
MAX_AFFIX = 64  # characters that a model writes before or behind every piece it looks up
MAX_WORD = 256  # characters; WordPiece looks up every part of a word
MAX_ADDED = 64  # special tokens around a text
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
        reasons = [*tokenizer_growth.faults(value), *_model(value["model"]), *_lengths(value)]
        reasons += _templates(value.get("post_processor"))
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


def _model(model: Mapping[str, Any]) -> Iterator[str]:
    """Answers that are drawn by lot, take for ever, or are none for a character that the vocabulary lacks."""
    kind, unknown = model["type"], model.get("unk_token")
    for drawn in ("dropout", "alpha", "nbest_size"):
        if model.get(drawn):
            yield f"the tokenizer's model has {drawn} {model[drawn]!r}: its answers would be random; set it to null"
    for affix in ("continuing_subword_prefix", "end_of_word_suffix"):
        if len(model.get(affix) or "") > MAX_AFFIX:
            yield f"the tokenizer's {affix} has more than {MAX_AFFIX} characters"
    if model.get("max_input_chars_per_word", 0) > MAX_WORD:
        yield f"the tokenizer's max_input_chars_per_word is more than {MAX_WORD}"
    if kind == "Unigram":
        if not isinstance(model.get("unk_id"), int) or not 0 <= model["unk_id"] < len(model["vocab"]):
            yield "the tokenizer's unk_id is no id of its vocabulary, so that an unknown character would be an error"
    elif kind in ("WordPiece", "WordLevel") or unknown is not None:
        default = "<unk>" if kind == "WordLevel" else "[UNK]"
        name = default if unknown is None else unknown
        if name not in model["vocab"]:
            yield f"the tokenizer's vocabulary lacks its unk_token {name!r:.100}: add it, or unknown text is an error"


def _lengths(value: Mapping[str, Any]) -> list[str]:
    vocabulary = value["model"]["vocab"]
    words = (entry[0] for entry in vocabulary) if isinstance(vocabulary, list) else iter(vocabulary)
    added = (token["content"] for token in _list(value.get("added_tokens")))
    longest = max(map(len, (*words, *added)), default=0)
    return [f"the tokenizer has a token of {longest} characters; at most {MAX_TOKEN}"] if longest > MAX_TOKEN else []


def _templates(processor: Any) -> Iterator[str]:
    """What stands around a text, or a pair: few special tokens, and each text once."""
    if not isinstance(processor, dict):
        return
    children = _list(processor.get("processors"))
    if len(children) > tokenizer_growth.MAX_COMPONENTS:
        yield f"the tokenizer's post_processor has more than {tokenizer_growth.MAX_COMPONENTS} members"
        return
    for child in children:
        yield from _templates(child)
    special = processor.get("special_tokens") or {}
    for member in ("single", "pair"):
        pieces = _list(processor.get(member))
        texts = [piece["Sequence"]["id"] for piece in pieces if "Sequence" in piece]
        added = sum(len(special[piece["SpecialToken"]["id"]]["ids"]) for piece in pieces if "SpecialToken" in piece)
        if len(set(texts)) != len(texts):
            yield f"the tokenizer's post_processor repeats a text in {member!r}"
        if added > MAX_ADDED:
            yield f"the tokenizer's post_processor adds {added} tokens in {member!r}; at most {MAX_ADDED}"


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
        tokenizer = Tokenizer.from_buffer(data)
        tokenizer.no_padding()  # neither setting is used, and padding could ask for any amount of memory
        tokenizer.no_truncation()
        for text in _PROBES:
            tokenizer.encode(text)
        tokenizer.encode(*_PROBES[:2])
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
