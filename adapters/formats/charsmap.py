"""A tokenizer's table of character replacements (`precompiled_charsmap` of sentencepiece), checked before it is used.

The table is a double array of strings (Darts) and the text of what they become. The tokenizer follows it without a
look at its bounds, and it may turn a character into megabytes; here it is walked in full, once.
"""

import base64
import struct
import unicodedata
from collections.abc import Iterator, Sequence

MAX_BYTES = 1 << 20  # the tables of public tokenizers take a quarter of it
GROWTH = 3  # characters of one, where Unicode's own decomposition makes fewer
MAX_NODES = 500_000  # ways through the table, whose strings share their ends
_BLOCK = 256
_LABEL = 0x800000FF


def faults(text: object) -> list[str]:
    """Why a table can not be used: it is broken, or makes more of a text than the normal forms of Unicode do."""
    if not isinstance(text, str):
        return ["the tokenizer's precompiled_charsmap is no text"]
    try:
        data = base64.b64decode(text, validate=True)
        size = int.from_bytes(data[:4], "little")
        if not 4 <= size <= min(len(data) - 4, MAX_BYTES) or size % 4:
            raise ValueError(f"its double array has {size} bytes of {len(data)}; at most {MAX_BYTES} are allowed")
        array, made = struct.unpack(f"<{size // 4}I", data[4 : 4 + size]), data[4 + size :]
        for key, index in _entries(array):
            if not 0 <= index < len(made):
                raise ValueError("it points outside of its text")
            spelled, value = key.decode(), made[index : index + _BLOCK].split(b"\0", 1)[0]
            if len(value) == _BLOCK or _grows(spelled, value.decode()):
                return [f"the tokenizer's precompiled_charsmap makes more of {spelled!r} than Unicode's own forms do"]
    except ValueError as error:
        return [f"the tokenizer's precompiled_charsmap is broken: {error}"]
    return []


def _entries(array: Sequence[int]) -> Iterator[tuple[bytes, int]]:
    """Every string of the double array, and its number; raises `ValueError` where a step could lead outside of it."""
    children: dict[int, list[int]] = {}
    for place, unit in enumerate(array):
        if 0 < unit & _LABEL < _BLOCK:
            children.setdefault(place ^ (unit & _LABEL), []).append(place)
    waiting, seen = [(b"", _offset(array[0]))], 0
    while waiting:
        key, base = waiting.pop()
        seen += 1
        if base | (_BLOCK - 1) >= len(array) or seen > MAX_NODES or len(key) > _BLOCK:
            raise ValueError("its double array leads nowhere")
        for place in children.get(base, ()):
            unit = array[place]
            longer, after = key + bytes([unit & _LABEL]), place ^ _offset(unit)
            if unit >> 8 & 1:
                if after >= len(array):
                    raise ValueError("its double array leads nowhere")
                yield longer, array[after] & 0x7FFFFFFF
            waiting.append((longer, after))


def _offset(unit: int) -> int:
    return (unit >> 10) << ((unit & 512) >> 6)


def _grows(key: str, value: str) -> bool:
    own = len(unicodedata.normalize("NFKD", key))
    return len(unicodedata.normalize("NFKD", value)) > max(GROWTH * len(key), own)
