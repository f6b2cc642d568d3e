"""How many characters a tokenizer.json can make of one, before its model and again when it spells tokens as text.

Every component has a factor, and a sequence multiplies them: three replacements of one character by 300 make
27 million of it. The factors are upper bounds, so that no text has to be tried.
"""

import unicodedata
from collections.abc import Iterator, Mapping
from typing import Any

from adapters.formats import charsmap

MAX_GROWTH = 72
MAX_COMPONENTS = 32
MAX_TEXT = 64  # characters of any setting
MAX_CONTENT = 4  # characters of a replacement of fewer, and of what is put in front
UNICODE_GROWTH = 18  # characters that NFKD makes of U+FDFA, the most of all
_FORMS: Mapping[str, int] = {"NFC": 4, "NFD": 4, "NFKC": UNICODE_GROWTH, "NFKD": UNICODE_GROWTH}
# BERT's sets a space on both sides of a CJK ideograph; bytes are written as characters, at most 4 for one; decoders
# replace a text that may be empty.
_FACTORS: Mapping[str, int] = {"BertNormalizer": 4, "ByteLevel": 4, "BPEDecoder": 2, "CTC": 2}
_CHILDREN = ("normalizers", "pretokenizers", "decoders")


def faults(value: Mapping[str, Any]) -> list[str]:
    """Why the components of a tokenizer.json, all of allowed types, could make too much of a text."""
    before = [*_leaves(value.get("normalizer")), *_leaves(value.get("pre_tokenizer"))]
    behind = list(_leaves(value.get("decoder")))
    if max(len(before), len(behind)) > MAX_COMPONENTS:
        return [f"the tokenizer has a sequence of more than {MAX_COMPONENTS} components"]
    reasons = [reason for leaf in (*before, *behind) for reason in _settings(leaf)]
    if reasons:
        return reasons
    for leaves, what in ((before, "normalizer and pre_tokenizer"), (behind, "decoder")):
        growth = _growth(leaves)
        if growth > MAX_GROWTH:
            reasons.append(
                f"the tokenizer's {what} could make {growth:g} characters of one; at most {MAX_GROWTH} are allowed: "
                "replace by shorter text, or with fewer components"
            )
    return reasons


def _leaves(component: Any) -> Iterator[Mapping[str, Any]]:
    """The components of nested sequences, in the order in which they run."""
    if not isinstance(component, dict):
        return
    if component["type"] != "Sequence":
        yield component
    for name in _CHILDREN:
        for child in component.get(name) or ():
            yield from _leaves(child)


def _settings(leaf: Mapping[str, Any]) -> Iterator[str]:
    kind = leaf["type"]
    for name, setting in leaf.items():
        if isinstance(setting, str) and name not in ("precompiled_charsmap", "content") and len(setting) > MAX_TEXT:
            yield f"the tokenizer's {kind} has a {name} of {len(setting)} characters; at most {MAX_TEXT} are allowed"
    if kind == "Precompiled":
        yield from charsmap.faults(leaf.get("precompiled_charsmap"))
    if kind == "Prepend" and len(leaf["prepend"]) > MAX_CONTENT:
        yield f"the tokenizer's Prepend puts {len(leaf['prepend'])} characters in front; at most {MAX_CONTENT}"
    if kind == "Replace":
        shortest = _shortest(leaf)
        if shortest == 0:
            yield "the tokenizer's Replace has an empty pattern, which is everywhere"
        elif len(leaf["content"]) > max(MAX_CONTENT, shortest):
            yield f"the tokenizer's Replace makes {len(leaf['content'])} characters of {shortest}; at most {MAX_CONTENT}"


def _shortest(leaf: Mapping[str, Any]) -> int:
    """The least that a pattern matches; of the known expressions, ` {2,}` takes two characters, the others one."""
    pattern = leaf["pattern"]
    if isinstance(pattern, dict) and "String" in pattern:
        return len(pattern["String"])
    return 2 if isinstance(pattern, dict) and pattern.get("Regex") == " {2,}" else 1


def _growth(leaves: list[Mapping[str, Any]]) -> float:
    """The product; a second normal form finds nothing to do, unless something between them made new characters."""
    growth, fresh = 1.0, True
    for leaf in leaves:
        kind = leaf["type"]
        if kind in _FORMS:
            growth *= _FORMS[kind] if fresh else 1
            fresh = fresh and kind not in ("NFKC", "NFKD")
        elif kind == "Precompiled":
            growth *= UNICODE_GROWTH if fresh else charsmap.GROWTH
            fresh = False
        elif kind == "Replace":
            content = leaf["content"]
            growth *= max(1.0, len(content) / _shortest(leaf))
            fresh = fresh or unicodedata.normalize("NFKD", content) != content
        elif kind == "Lowercase":
            growth *= 2 if fresh and growth > 1 else 1  # of U+0130 alone
        elif kind == "ByteLevel":
            growth *= 4 if fresh else 2
            fresh = True
        else:
            growth *= _FACTORS.get(kind, 1)
    return growth
