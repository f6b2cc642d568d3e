"""Packages that no service may take: a sound one, broken in one of many ways, drawn with a seed."""

import random
from collections.abc import Callable, Mapping, Sequence

from loadtests.proofs import hostile_files, hostile_headers
from loadtests.proofs.sound_package import Sound, opened

KINDS: Mapping[str, Callable[[random.Random, Sound], bytes]] = {
    "shape": hostile_headers.shape,
    "another size": hostile_headers.resized,
    "dtype": hostile_headers.dtype,
    "duplicate key": hostile_files.twice,
    "giant header": hostile_files.giant,
    "not finite": hostile_files.not_finite,
    "pickle": hostile_files.pickled,
    "archive": hostile_files.archive,
    "traversal": hostile_headers.far,
    "another family": hostile_headers.family,
    "truncated": hostile_files.cut,
    "too many or few tensors": hostile_headers.tensors,
    "impossible number": hostile_headers.numbers,
    "manifest": hostile_headers.manifest,
    "not JSON": hostile_files.not_json,
    "empty or noise": hostile_files.nothing,
    "polyglot": hostile_files.polyglot,
    "offsets": hostile_headers.offsets,
}


def hostile(sound: Sequence[bytes], count: int, seed: int) -> list[tuple[str, bytes]]:
    """So many attacks, kind after kind, each on one of the sound packages; the same seed gives the same bytes."""
    kinds, dice, parts = list(KINDS.items()), random.Random(seed), [opened(package) for package in sound]
    made = []
    for number in range(count):
        kind, attack = kinds[number % len(kinds)]
        body = attack(dice, dice.choice(parts))
        assert body not in sound, f"{kind} changed nothing"
        made.append((kind, body))
    return made
