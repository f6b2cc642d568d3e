"""The frame that pictures are brought to, which decoders have to know without numpy."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Frame:
    """The size in pixels that every image is brought to; `resample` is Pillow's filter, None where nothing is resized."""

    height: int
    width: int
    resample: int | None
