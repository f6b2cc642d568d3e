"""Messages on a connection between gateway and engine: a kind and its bytes, told apart by their length in front."""

import asyncio
import socket
from abc import ABC, abstractmethod
from enum import IntEnum
from typing import cast

MOST_UNKNOWN = 1 << 10  # bytes of a message of somebody who has not said who it is yet
MOST = 1 << 31  # of any other
# Of a host that is gone nothing is heard: it is asked after so many seconds of silence, then so often, and given up.
SILENCE_S, AGAIN_S, TIMES = 5, 2, 3
_HEAD = 5  # bytes: the length, then the kind


class Kind(IntEnum):
    """What a message is; the gateway speaks first."""

    HELLO = 0  # the password of the engine
    WELCOME = 1  # it is right: what comes now is read; with the countersign, by which the gateway knows the engine
    TICKETS = 2
    CANCEL = 3  # ids, as JSON
    REPLIES = 4
    BYE = 5  # the engine has answered all it took, and takes nothing more: the gateway hangs up


class Frames(asyncio.Protocol, ABC):
    """One end of a connection. Whoever sends what can not be read is cut off."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray()
        self._most = MOST_UNKNOWN

    @property
    def unsent(self) -> int:
        """Bytes that wait here because the other end does not read."""
        return self._transport.get_write_buffer_size() if self._transport is not None else 0

    @abstractmethod
    def got(self, kind: Kind, data: bytearray) -> None:
        """A message came, which is the caller's own; whatever this raises ends the connection."""

    @abstractmethod
    def ended(self, error: Exception | None) -> None:
        """The connection is over; `error` is what `got` raised."""

    def trusted(self) -> None:
        """The other end is who it should be: its messages may be large."""
        self._most = MOST

    def send(self, kind: Kind, data: bytes = b"") -> bool:
        """Send a message; False where the connection is over, and nothing of it left."""
        if self._transport is None or self._transport.is_closing():
            return False
        self._transport.write(len(data).to_bytes(4, "little") + bytes([kind]) + data)
        return True

    def close(self) -> None:
        """End the connection once everything is sent."""
        if self._transport is not None:
            self._transport.close()

    def cut(self) -> None:
        """End the connection at once."""
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Of `asyncio.Protocol`."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by name
        _watch(transport.get_extra_info("socket"))

    def data_received(self, data: bytes) -> None:
        """Of `asyncio.Protocol`."""
        self._buffer += data
        try:
            while self._transport is not None and len(self._buffer) >= _HEAD:
                size = int.from_bytes(self._buffer[:4], "little")
                if size > self._most:
                    raise ValueError(f"a message of {size} bytes; {self._most} may be")
                if len(self._buffer) < _HEAD + size:
                    return
                kind, message = Kind(self._buffer[4]), self._buffer[_HEAD : _HEAD + size]
                del self._buffer[: _HEAD + size]
                self.got(kind, message)
        except Exception as error:  # a stranger, or a bug: nothing that follows can be told apart
            self._over(error)

    def connection_lost(self, exc: Exception | None) -> None:
        """Of `asyncio.Protocol`."""
        if self._transport is not None:
            self._over(None)

    def _over(self, error: Exception | None) -> None:
        transport, self._transport = self._transport, None
        if transport is not None:
            transport.abort()
        self._buffer.clear()
        self.ended(error)


def _watch(wire: socket.socket) -> None:
    """Have the connection end when the other host is gone, whether anything was sent to it or not."""
    wire.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    bounds = {
        "TCP_KEEPIDLE": SILENCE_S,
        "TCP_KEEPINTVL": AGAIN_S,
        "TCP_KEEPCNT": TIMES,
        # Nobody is asked while something sent waits to be confirmed, for a quarter of an hour if nothing is said.
        "TCP_USER_TIMEOUT": 1000 * (SILENCE_S + AGAIN_S * TIMES),
    }
    for name, value in bounds.items():
        if (option := getattr(socket, name, None)) is not None:  # Linux has all of them
            wire.setsockopt(socket.IPPROTO_TCP, option, value)
