"""A request's images to rows: base64 off the event loop, decoding in other processes; every fault is named at once."""

import asyncio
import base64
import binascii
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from adapters.architectures.geometry import Geometry
from serving.api.preparing import Part, Pointer, check_items, check_splits, refusal
from serving.api.selection import Selection
from serving.config import Limits
from serving.errors import ServiceError, TooLarge, Unprocessable
from serving.images.preprocessing import Picture
from serving.tasks.inputs import Image, Input
from serving.tasks.task import Options, Patches, Piece, Prepared

AT_ONCE = 2  # images of one request that are decoded: those of others come in between
BRIEF = 1 << 16  # characters of base64 that cost less than a thread's turn
_DATA_URL = re.compile(r"data:[^,;]{0,100}(;[^,;]{0,100})*;base64,", re.IGNORECASE)
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]{0,30}:")


@dataclass(frozen=True)
class Pictures:
    """Reads the images of requests for one backbone."""

    decode: Callable[[bytes], Awaitable[Picture]]  # `serving.images.decoder.Decoder.decode`
    geometry: Geometry
    limits: Limits

    def tokens(self, count: int) -> int:
        """Of so many images: the class token and the patches of each."""
        return count * self.geometry.max_tokens

    async def parts(
        self, inputs: Sequence[Input], selection: Selection, options: Options, pointer: Pointer
    ) -> tuple[tuple[Part, ...], ...]:
        """A part per branch of every image; raises `Unprocessable` or `TooLarge` naming every image at fault."""
        rows = sum(len(selection.of(i)) for i in range(len(inputs)))
        if rows > self.limits.max_rows:
            detail = f"{rows} rows (each branch makes one); at most {self.limits.max_rows} in one request"
            raise TooLarge(detail, code="too_many_rows", pointer="/inputs")
        turns = asyncio.Semaphore(AT_ONCE)
        found = await asyncio.gather(*(self._seen(item, turns) for item in inputs))
        faults = {i: seen for i, seen in enumerate(found) if isinstance(seen, ServiceError)}
        if faults:
            raise refusal(faults, pointer)
        seen = [
            Prepared(item, (Piece(row),)) for item, row in zip(inputs, found, strict=True) if isinstance(row, Patches)
        ]
        parts = tuple(
            tuple(Part.of(branch, prepared, options) for branch in selection.of(i)) for i, prepared in enumerate(seen)
        )
        check_splits(parts, pointer)
        check_items(parts, dict.fromkeys(selection.tasks, options), self.limits.max_answer_items)
        return parts

    async def _seen(self, item: Input, turns: asyncio.Semaphore) -> Patches | ServiceError:
        assert isinstance(item, Image), "other inputs were refused before"
        async with turns:
            try:
                brief = len(item.source) <= BRIEF
                most = self.limits.max_image_bytes
                data = unpacked(item.source, most) if brief else await asyncio.to_thread(unpacked, item.source, most)
                return Patches(await self.decode(data), self.geometry.max_tokens)
            except (Unprocessable, TooLarge) as error:
                return type(error)(error.detail, code=error.code, pointer="/image")


def unpacked(source: str | bytes, most: int) -> bytes:
    """The bytes of an image; raises `TooLarge` for more of them, `Unprocessable` for what is no base64, or a URL."""
    if isinstance(source, bytes):
        return _bounded(source, most)
    head = _DATA_URL.match(source)
    if head is None and _URL.match(source):
        detail = "nothing is fetched: send the image itself, in base64 or as a data: URL with base64"
        raise Unprocessable(detail, code="remote_image")
    begin = 0 if head is None else head.end()
    if (len(source) - begin) // 4 * 3 > most + 2:  # before it is unpacked
        raise _too_many_bytes((len(source) - begin) // 4 * 3, most)
    try:
        data = base64.b64decode(source[begin:], validate=True)
    except (binascii.Error, ValueError) as error:
        raise Unprocessable(f"the image is no base64: {error}", code="malformed_base64") from error
    return _bounded(data, most)


def _bounded(data: bytes, most: int) -> bytes:
    if len(data) > most:
        raise _too_many_bytes(len(data), most)
    return data


def _too_many_bytes(count: int, most: int) -> TooLarge:
    return TooLarge(f"the image has {count} bytes; at most {most}: send it smaller", code="image_too_large")
