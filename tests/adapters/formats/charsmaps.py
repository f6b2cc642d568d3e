"""Tables of character replacements with one entry, as sentencepiece lays them out."""

import base64
import struct


def table(key: str, value: str) -> str:
    """A double array in which every byte of the key has a block of 256 units, and the text it leads to."""
    letters = key.encode()
    units = [0] * (256 * (len(letters) + 2))
    units[0] = 256 << 10
    base = 256
    for i, letter in enumerate(letters):
        place, after = base ^ letter, 256 * (i + 2)
        units[place] = letter | (i == len(letters) - 1) << 8 | (place ^ after) << 10
        base = after
    units[base] = 1 << 31
    array = struct.pack(f"<{len(units)}I", *units)
    return base64.b64encode(struct.pack("<I", len(array)) + array + value.encode() + b"\0").decode()
