"""Attacks that are good JSON: a header or a manifest that says what can not be, each in one place of a sound package."""

import json
import random
from collections.abc import Callable
from typing import Any

import numpy as np

from loadtests.proofs.sound_package import Sound, drawn

FAR = (
    "../../etc/passwd",
    "0/../../up",
    "/etc/passwd",
    "0//w",
    "0/lora_a/..",
    "..",
    "0/\x00/w",
    "a" * 5000,
    "0/\u202e/w",
)
MANY_DIGITS = "9" * 5000  # more than Python reads as a number without being told to
HUGE = (2**31, 2**63, 2**64, 10**30, -(10**18), 1e308, 0)


def shape(dice: random.Random, sound: Sound) -> bytes:
    """A shape that is none, or does not take the bytes that are there."""
    header, name = drawn(dice, sound)
    shape = header[name]["shape"]
    wrong: tuple[Any, ...] = (
        [],
        [*shape, 2],
        [0],
        [-1, *shape[1:]],
        [2**62, 4],
        [2**63],
        [1] * 9,
        [float(shape[0])],
        None,
        "all",
    )
    header[name]["shape"] = dice.choice((*wrong, [shape[0] + 1, *shape[1:]]))
    return sound.written(header)


def resized(dice: random.Random, sound: Sound) -> bytes:
    """Every number agrees with every other one, and none with the backbone."""
    header, name = drawn(dice, sound)
    entry, wider = header[name], dice.randint(1, 64)
    start, end = entry["data_offsets"]
    shape = [entry["shape"][0] + wider, *entry["shape"][1:]]
    more = 4 * int(np.prod(shape)) - (end - start)
    for other in header.values():
        if other is not entry and other["data_offsets"][0] >= end:
            other["data_offsets"] = [offset + more for offset in other["data_offsets"]]
    entry.update(shape=shape, data_offsets=[start, end + more])
    return sound.written(header, data=sound.data[:end] + bytes(more) + sound.data[end:])


def dtype(dice: random.Random, sound: Sound) -> bytes:
    """A dtype that is not allowed, or does not take the bytes that are there."""
    header, name = drawn(dice, sound)
    wrong = ("F64", "I64", "I32", "BOOL", "F8_E4M3", "U8", "O", "", None, 4, "F16", "f32", "C64")
    header[name]["dtype"] = dice.choice(wrong)
    return sound.written(header)


def far(dice: random.Random, sound: Sound) -> bytes:
    """A tensor whose name leads elsewhere."""
    header, name = drawn(dice, sound)
    renamed = {dice.choice(FAR) if other == name else other: entry for other, entry in header.items()}
    return sound.written(renamed)


def family(dice: random.Random, sound: Sound) -> bytes:
    """Made for another backbone."""
    requires = dict(sound.manifest["requires"])
    field = dice.choice(("model_type", "hidden_size", "layers", "heads"))
    requires[field] = (
        dice.choice(("roberta", "gpt2", "t5", "../bert")) if field == "model_type" else dice.randint(5, 999)
    )
    return sound.written(manifest={**sound.manifest, "requires": requires})


def tensors(dice: random.Random, sound: Sound) -> bytes:
    """One tensor too many, of good form, or one too few."""
    header, name = drawn(dice, sound)
    if dice.random() < 0.5:  # one too many, of good form
        at, size = len(sound.data), 4 * dice.randint(1, 64)
        extra = {"dtype": "F32", "shape": [size // 4], "data_offsets": [at, at + size]}
        header[f"{dice.randint(0, 9)}/extra/w{dice.randint(0, 99)}"] = extra
        return sound.written(header, data=sound.data + bytes(size))
    start, end = header.pop(name)["data_offsets"]  # one too few
    for entry in header.values():
        if entry["data_offsets"][0] >= end:
            entry["data_offsets"] = [offset - end + start for offset in entry["data_offsets"]]
    return sound.written(header, data=sound.data[:start] + sound.data[end:])


def numbers(dice: random.Random, sound: Sound) -> bytes:
    """A number of the manifest that no model has; some are no JSON, or more digits than are read."""
    text = json.dumps(sound.manifest)
    spots = [(field, value) for field, value in sound.manifest["requires"].items() if isinstance(value, int)]
    field, value = dice.choice(spots)
    wrong = dice.choice((*map(str, HUGE), MANY_DIGITS, f"-{MANY_DIGITS}", "NaN", "Infinity", "1e999", "true", "[]"))
    return sound.written(manifest=text.replace(f'"{field}": {value}', f'"{field}": {wrong}', 1))


def manifest(dice: random.Random, sound: Sound) -> bytes:
    """A manifest with a part that is missing, unknown, or of another kind."""
    changed = json.loads(json.dumps(sound.manifest))
    part, head = changed["parts"][0], changed["head"]
    attacks: tuple[Callable[[], Any], ...] = (
        lambda: changed.pop(dice.choice(("kind", "parts", "requires"))),
        lambda: changed.update({dice.choice(("run", "auto_map", "__class__", "url")): "http://127.0.0.1/"}),
        lambda: changed.update(kind=dice.choice(("fusion", "head", "target", "embedding", "code", None, 7))),
        lambda: part.update(method=dice.choice(("pickle", "../lora", "", None, 1, "LORA"))),
        lambda: part.update(config=dice.choice(([], None, "x", {"sites": {"99/ffn_junction": {}}}, {"sites": []}))),
        lambda: part["config"].update({"no_such_field": {"a": [1]}}),
        lambda: head.update(labels=dice.choice((["a", "a", "b"], [""] * 3, [1, 2, 3], ["x"] * 10_001, "abc"))),
        lambda: head.update(type=dice.choice(("eval", None, 3)), layers=dice.choice((10**9, -1, "1"))),
        lambda: changed.update(parts=changed["parts"] * dice.randint(2, 400)),
        lambda: changed.update(parts=[]),
    )
    dice.choice(attacks)()
    return sound.written(manifest=changed)


def offsets(dice: random.Random, sound: Sound) -> bytes:
    """Tensors that overlap, leave a hole, or lie outside."""
    header, name = drawn(dice, sound)
    start, end = header[name]["data_offsets"]
    wrong = (
        [end, start],
        [start + 4, end + 4],
        [-4, end],
        [start, 2**62],
        [start],
        [start, end, end],
        None,
        [0, 2**63],
    )
    header[name]["data_offsets"] = dice.choice((*wrong, [float(start), float(end)], ["0", "4"], [start, end - 1]))
    return sound.written(header)
