"""Attacks on the file: pickles, archives, headers that are too large or no JSON, files cut short or glued together."""

import bz2
import gzip
import io
import json
import lzma
import random
import struct
import tarfile
import zipfile

import numpy as np

from loadtests.proofs.hostile_headers import FAR
from loadtests.proofs.sound_package import Sound, framed

RUNS = b"cbuiltins\nexec\n(S'raise SystemExit(66)'\ntR."  # as a pickle of protocol 0: it calls `exec` where it is read
HOLDS = b"(dS'weights'\n(lF1.0\nas."  # a dictionary with a list of one number


def twice(dice: random.Random, sound: Sound) -> bytes:
    """A header that names something twice."""
    name = dice.choice([*sound.header])
    text = json.dumps({"__metadata__": {"format": "chorus/1", "manifest": json.dumps(sound.manifest)}, **sound.header})
    again = dice.choice((f'"{name}":{json.dumps(sound.header[name])}', '"__metadata__":{"format":"chorus/1"}'))
    if dice.random() < 0.5:
        return framed(f"{{{again},{text[1:]}".encode(), sound.data)
    return framed(f"{text[:-1]},{again}}}".encode(), sound.data)


def giant(dice: random.Random, sound: Sound) -> bytes:
    """A header that is too large, too deep, or says that it is."""
    if dice.random() < 0.5:
        return framed(b"{}", sound.data, dice.choice((2**20 + 1, 2**31, 2**40, 2**63, 2**64 - 1)))
    many = {f"0/extra/{number}": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]} for number in range(5000)}
    texts = (b" " * (2**20 + 8), b"[" * 200_000, b'{"a":' * 100_000, b'{"' + b"a" * (2**20), json.dumps(many).encode())
    return framed(dice.choice(texts), sound.data)


def not_finite(dice: random.Random, sound: Sound) -> bytes:
    """Weights that are no numbers, or infinite."""
    values = np.frombuffer(sound.data, "<f4").copy()
    many = dice.choice((1, 2, len(values) // 2))
    for number in dice.sample(range(len(values)), many):
        values[number] = dice.choice((np.nan, np.inf, -np.inf))
    return sound.written(data=values.tobytes())


def pickled(dice: random.Random, sound: Sound) -> bytes:
    """A pickle, alone or inside."""
    data = pickle(dice.choice((RUNS, HOLDS)), dice.randint(0, 5))
    return dice.choice((data, data + sound.written(), framed(data, sound.data)))


def pickle(opcodes: bytes, protocol: int) -> bytes:
    """A pickle of these opcodes that says that it is of a protocol, with a frame where that has frames."""
    frame = b"\x95" + struct.pack("<Q", len(opcodes)) if protocol >= 4 else b""
    return (b"\x80" + bytes([protocol]) if protocol >= 2 else b"") + frame + opcodes


def archive(dice: random.Random, sound: Sound) -> bytes:
    """An archive, a bomb among them, or the package compressed."""
    inside, name, out = sound.written(), dice.choice(("a.safetensors", *FAR[:3], "data.pkl")), io.BytesIO()
    kind = dice.choice(("zip", "bomb", "tar", "tar.gz", "gz", "bz2", "xz"))
    if kind in ("zip", "bomb"):
        with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(name, inside if kind == "zip" else bytes(dice.randint(1, 8) << 20))
    elif kind.startswith("tar"):
        with tarfile.open(fileobj=out, mode="w:gz" if kind.endswith("gz") else "w") as archive:
            entry = tarfile.TarInfo(name)
            entry.size = len(inside)
            archive.addfile(entry, io.BytesIO(inside))
    else:
        out.write(
            gzip.compress(inside) if kind == "gz" else bz2.compress(inside) if kind == "bz2" else lzma.compress(inside)
        )
    return out.getvalue()


def cut(dice: random.Random, sound: Sound) -> bytes:
    """A sound package that ends early."""
    whole = sound.written()
    return whole[: dice.randrange(len(whole))]


def not_json(dice: random.Random, sound: Sound) -> bytes:
    """A header or a manifest that is no JSON."""
    text = json.dumps(sound.manifest)
    wrong = ("", "null", "[]", '"', "{", text[:-1], text + text, f"[{text}]", "\ud800", "[" * 50_000, text[::-1])
    if dice.random() < 0.5:
        return sound.written(manifest=dice.choice(wrong))
    whole = bytearray(sound.written())
    (length,) = struct.unpack("<Q", whole[:8])
    spots = [at for at in range(8, 8 + length) if whole[at] in b"{}[]:,"]
    whole[dice.choice(spots)] = dice.choice((0, 0x1F, 0xFF, 0xC3))  # no JSON holds these bare
    return bytes(whole)


def nothing(dice: random.Random, sound: Sound) -> bytes:
    """Next to nothing, or noise."""
    few = (b"", b"\x00", bytes(8), bytes(7), framed(b"{}", b""), framed(b"", sound.data), b"{}", b"null", bytes(4096))
    return dice.choice((*few, framed(b'{"__metadata__":{}}', b""), dice.randbytes(dice.randint(1, 65_536))))


def polyglot(dice: random.Random, sound: Sound) -> bytes:
    """A package that is also something else."""
    whole, out = sound.written(), io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("data.pkl", pickle(RUNS, 2))
    front = (
        out.getvalue(),
        b"\x7fELF",
        b"GIF89a",
        b"#!/bin/sh\n",
        b"<html>",
        b"PK\x03\x04",
        b"\x80\x04",
        b"%PDF-1.7\n",
    )
    return whole + out.getvalue() if dice.random() < 0.4 else dice.choice(front) + whole
