"""The process that decodes images: `python -m serving.images.worker`, over its pipes.

    first line   {"frame": {...}, "max_pixels": n, "memory_bytes": n}   -> a zero byte
    then         a length (4 bytes, little-endian), and an image        -> a zero byte and the pixels,
                                                                           or a one, a length and JSON: {"status", "code", "detail"}

It ends with its input. It holds no key; once it has begun it can open no file and no connection, and may use only so much
memory. It imports neither torch nor numpy.
"""

import json
import resource
import sys
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from PIL import Image

from serving.errors import ServiceError
from serving.images.decoding import FORMATS, decoded
from serving.images.frame import Frame

DONE, REFUSED = b"\0", b"\1"
LENGTH = 4  # bytes of a length


def serve(source: BinaryIO, sink: BinaryIO, frame: Frame, max_pixels: int) -> None:
    """Decode until the input ends."""
    while len(head := source.read(LENGTH)) == LENGTH:
        data = source.read(int.from_bytes(head, "little"))
        try:
            sink.write(DONE + decoded(data, frame, max_pixels))
        except ServiceError as error:
            told = json.dumps({"status": error.status, "code": error.code, "detail": error.detail}).encode()
            sink.write(REFUSED + len(told).to_bytes(LENGTH, "little") + told)
        sink.flush()


def _rehearse() -> None:
    """One image of every format with an orientation: afterwards nothing is imported any more, which takes files."""
    exif = Image.Exif()
    exif[0x0112] = 6
    for name in FORMATS:
        made = BytesIO()
        Image.new("RGB", (3, 2)).save(made, name, exif=exif)
        decoded(made.getvalue(), Frame(2, 2, 2), 6)


def _confine(memory_bytes: int) -> None:
    used = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmData"))
    cap = int(used.split()[1]) * 1024 + memory_bytes
    for what, most in (
        (resource.RLIMIT_DATA, cap),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, 0),  # what is open stays open
    ):
        resource.setrlimit(what, (most, most))


def main() -> None:
    """See the module."""
    source, sink = sys.stdin.buffer, sys.stdout.buffer
    hello = json.loads(source.readline())
    _rehearse()
    _confine(hello["memory_bytes"])
    sink.write(DONE)
    sink.flush()
    serve(source, sink, Frame(**hello["frame"]), hello["max_pixels"])


if __name__ == "__main__":
    main()
