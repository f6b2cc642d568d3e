"""A gateway's decoders: processes that read strangers' images, supervised here; `worker` is one of them.

Images are hostile bytes for libraries in C, and a thread of the gateway could neither cap their memory nor survive them:
beside what a decoding takes (milliseconds), a pipe to another process costs little. A decoder that dies or takes too long
refuses the image that did it, and nothing else; the next image starts a new one.
"""

import asyncio
import json
import logging
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from serving.errors import NotReady, ServiceError, TooLarge, Unprocessable
from serving.images.frame import Frame
from serving.images.preprocessing import Picture
from serving.logs import log

DECODERS = 2
_MODULE = "serving.images.worker"
_ROOT = Path(__file__).resolve().parents[2]  # where `-m` finds the service
_ENVIRONMENT = {"PYTHONIOENCODING": "utf-8"}  # no key and no setting of the service
_LENGTH = 4
_BYTES_PER_PIXEL = 24  # a WebP that is turned takes nearly 20: two canvases, a frame, and copies at four bytes each
_BESIDE = 64 << 20  # bytes that a small image may take


class Decoder:
    """Decodes images, at most `DECODERS` at once. Belongs to one event loop."""

    def __init__(
        self,
        frame: Frame,
        max_pixels: int,
        *,
        deadline_s: float = 10.0,
        start_s: float = 60.0,
        command: Sequence[str] = (sys.executable, "-m", _MODULE),
    ) -> None:
        """`deadline_s` is for one image; `command` is another worker (tests)."""
        self._frame = frame
        memory = _BESIDE + _BYTES_PER_PIXEL * max_pixels
        self._hello = {"frame": asdict(frame), "max_pixels": max_pixels, "memory_bytes": memory}
        self._deadline_s = deadline_s
        self._start_s = start_s
        self._command = tuple(command)
        self._idle: list[Process] = []  # the latest used is the next: the others may stay cold
        self._all: set[Process] = set()
        self._turns = asyncio.Semaphore(DECODERS)
        self._stopped = False

    async def start(self) -> None:
        """Start one ahead of the first image; raises `NotReady`."""
        self._idle.append(await self._new())

    async def stop(self) -> None:
        """End all of them for good; what they decode is refused."""
        self._stopped = True
        idle, self._idle = self._idle, []
        for process in self._all.difference(idle):
            process.kill()  # whoever waits for its answer buries it
        for process in idle:
            await self._end(process)

    async def decode(self, data: bytes) -> Picture:
        """The pixels [height, width, 3] of an image in the frame.

        Raises what `decoding.decoded` does, `Unprocessable` for an image that its decoder did not survive, and `NotReady`
        where none can be started.
        """
        async with self._turns:
            process = self._taken()
            if process is not None:
                try:
                    return await self._decoded(process, data)
                except _DeadDecoderError:
                    pass  # it may have ended before this image came: only one that saw nothing else can accuse it
            try:
                return await self._decoded(await self._new(), data)
            except _DeadDecoderError as error:
                raise Unprocessable("the decoder died of this image", code="unreadable_image") from error

    def check(self) -> None:
        """Assert that there are no more decoders than there may be, and that none waits that is gone."""
        assert len(self._all) <= DECODERS, f"{len(self._all)} decoders"
        assert self._all.issuperset(self._idle), "a decoder waits that is not there"

    def _taken(self) -> Process | None:
        while self._idle:
            process = self._idle.pop()
            if process.returncode is None:
                return process
            self._all.discard(process)
        return None

    async def _decoded(self, process: Process, data: bytes) -> Picture:
        try:
            async with asyncio.timeout(self._deadline_s):
                answer = await _ask(process, data, self._frame)
        except TimeoutError as error:
            await self._end(process)
            detail = f"the image took longer than {self._deadline_s:g} s to decode: send it smaller"
            raise Unprocessable(detail, code="unreadable_image") from error
        except BaseException:  # also who hung up: the answer to come belongs to nobody
            await self._end(process)
            raise
        self._idle.append(process)
        if isinstance(answer, ServiceError):
            raise answer
        return answer

    async def _new(self) -> Process:
        if self._stopped:
            raise NotReady("the service is stopping")
        process = await asyncio.create_subprocess_exec(
            *self._command, stdin=PIPE, stdout=PIPE, stderr=DEVNULL, cwd=_ROOT, env=_ENVIRONMENT
        )
        self._all.add(process)
        try:
            async with asyncio.timeout(self._start_s):
                await _greet(process, json.dumps(self._hello).encode() + b"\n")
        except BaseException as error:
            await self._end(process)
            if isinstance(error, TimeoutError | _DeadDecoderError):
                raise NotReady("no decoder of images starts", code="decoder_unavailable", retry_after=5.0) from error
            raise
        return process

    async def _end(self, process: Process) -> None:
        self._all.discard(process)
        if process.returncode is None:
            log("images", "ending a decoder", level=logging.WARNING, process=process.pid)
            process.kill()
        await process.communicate()  # reads what is left, else a full pipe would never end


class _DeadDecoderError(Exception):
    """The decoder closed its pipe, or answered what no decoder answers."""


async def _greet(process: Process, hello: bytes) -> None:
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(hello)
        await process.stdin.drain()
        await process.stdout.readexactly(1)
    except (ConnectionError, asyncio.IncompleteReadError) as error:
        raise _DeadDecoderError from error


async def _ask(process: Process, data: bytes, frame: Frame) -> Picture | ServiceError:
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.writelines((len(data).to_bytes(_LENGTH, "little"), data))
        await process.stdin.drain()
        if await process.stdout.readexactly(1) == b"\0":
            pixels = await process.stdout.readexactly(frame.height * frame.width * 3)
            return np.frombuffer(pixels, np.uint8).reshape(frame.height, frame.width, 3)
        length = int.from_bytes(await process.stdout.readexactly(_LENGTH), "little")
        told = json.loads(await process.stdout.readexactly(length))
        kind = TooLarge if told["status"] == TooLarge.status else Unprocessable
        return kind(told["detail"], code=told["code"])
    except (ConnectionError, asyncio.IncompleteReadError, ValueError, KeyError, TypeError) as error:
        raise _DeadDecoderError from error
