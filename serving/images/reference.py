"""The image of who gives none: what packages are tried on, and what a gate shows where it is only told to be one."""

import struct
import zlib

import numpy as np

from serving.images.preprocessing import Picture

DRAWN = "a drawn image"  # what answers call it


def drawn(height: int, width: int) -> Picture:
    """Two slopes, and a disc."""
    y, x = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    disc = np.where((y - 0.5) ** 2 + (x - 0.5) ** 2 < 0.09, 1.0, 0.0)
    return np.asarray(255 * np.stack([y, x, disc], axis=-1)).astype(np.uint8)


def png(picture: Picture) -> bytes:
    """A picture as a file, by hand: a gateway holds no library of images."""
    height, width, _ = picture.shape
    lines = b"".join(b"\0" + line.tobytes() for line in picture)
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = ((b"IHDR", head), (b"IDAT", zlib.compress(lines)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in parts
    )
