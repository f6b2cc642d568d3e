"""One HTTP/1.1 connection with one request on it at a time, and a pool of as many as are needed: an open loop waits for none.

Only what a load needs: requests that are ready bytes, answers with a Content-Length or in chunks. It costs a client a
fraction of what a general library does, which matters where service and client share a machine.
"""

import asyncio
import ssl
from collections import deque
from dataclasses import dataclass


class Broken(OSError):
    """The connection ended, or spoke no HTTP, before the answer was whole."""


class Unanswered(Broken):
    """The connection ended before a byte of the answer had come."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back. `head` holds the status line and the headers, as they were sent."""

    status: int
    head: bytes
    body: bytes

    def has(self, header: bytes) -> bool:
        """Whether a header (in lower case) is there."""
        return b"\r\n" + header + b":" in self.head.lower()


@dataclass(frozen=True)
class Place:
    """Where the service is."""

    host: str
    port: int
    tls: bool = False
    prefix: str = ""  # of every path

    def request(self, method: str, path: str, key: str, body: bytes, media: str = "application/json") -> bytes:
        """A whole request; `key` is empty for a service without keys."""
        head = f"{method} {self.prefix}{path} HTTP/1.1\r\nHost: {self.host}:{self.port}\r\nContent-Type: {media}\r\n"
        if key:
            head += f"Authorization: Bearer {key}\r\n"
        return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


class Connection(asyncio.Protocol):
    """A connection; `idle` takes it back once its answer is whole and it may be used again."""

    def __init__(self, idle: "deque[Connection]") -> None:
        self._idle = idle
        self._buffer = bytearray()
        self._answer: asyncio.Future[Answer] | None = None
        self._transport: asyncio.Transport | None = None

    def ask(self, raw: bytes) -> "asyncio.Future[Answer]":
        """Send one request; raises `Broken` through the future."""
        self._answer = asyncio.get_running_loop().create_future()
        if self._transport is None or self._transport.is_closing():
            self._answer.set_exception(Unanswered("hung up before an answer"))
        else:
            self._transport.write(raw)
        return self._answer

    def close(self) -> None:
        """Hang up."""
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Of `asyncio.Protocol`."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        """Of `asyncio.Protocol`."""
        if self in self._idle:
            self._idle.remove(self)
        if self._answer is not None and not self._answer.done():
            cut = Broken("hung up in the middle of an answer")
            self._answer.set_exception(cut if self._buffer else Unanswered("hung up before an answer"))

    def data_received(self, data: bytes) -> None:
        """Of `asyncio.Protocol`."""
        if self._answer is None:  # nobody asked: it must not be taken for the next answer
            self.close()
            return
        self._buffer += data
        try:
            answer = whole(self._buffer)
        except ValueError as error:
            self.close()
            if not self._answer.done():
                self._answer.set_exception(Broken(f"no HTTP: {error}"))
            return
        if answer is None:
            return
        self._buffer.clear()
        asked, self._answer = self._answer, None
        if b"connection: close" in answer.head.lower():
            self.close()
        else:
            self._idle.append(self)
        if not asked.done():
            asked.set_result(answer)


class Pool:
    """As many connections as there are requests under way, up to `most`: beyond these nothing is sent."""

    def __init__(self, place: Place, most: int) -> None:
        self.opened = 0
        self.again = 0  # requests that were sent a second time
        self._most = most
        self._under_way = 0
        self._place = place
        self._idle: deque[Connection] = deque()
        self._context = ssl.create_default_context() if place.tls else None

    async def ask(self, raw: bytes, patience_s: float, *, once: bool = False) -> Answer:
        """Send one request and wait for its answer; raises `OSError` (`Broken` among them) or `TimeoutError`.

        A connection that the other side closed while nobody used it is no failure: where one that was idle ends before a byte
        of the answer has come, the request is sent again, a single time and on a new connection, and counted. What must not
        be sent twice (`once`) has a new connection of its own from the start.
        """
        if self._under_way >= self._most:
            raise Broken(f"not sent: {self._most} requests of this process are under way")
        self._under_way += 1
        try:
            async with asyncio.timeout(patience_s):
                if once:
                    return await self._alone(raw)
                if self._idle:
                    try:
                        return await self._on(self._idle.pop(), raw)
                    except Unanswered:
                        self.again += 1
                return await self._on(await self._connect(self._idle), raw)
        finally:
            self._under_way -= 1

    def close(self) -> None:
        """Hang up everywhere."""
        for connection in tuple(self._idle):
            connection.close()

    async def _on(self, connection: Connection, raw: bytes) -> Answer:
        try:
            return await connection.ask(raw)
        except BaseException:  # a timeout, too: what comes late must not be taken for the next answer
            connection.close()
            raise

    async def _alone(self, raw: bytes) -> Answer:
        connection = await self._connect(deque())  # which nobody else takes it from
        try:
            return await self._on(connection, raw)
        finally:
            connection.close()

    async def _connect(self, idle: deque[Connection]) -> Connection:
        self.opened += 1
        loop, place = asyncio.get_running_loop(), self._place
        _, connection = await loop.create_connection(
            lambda: Connection(idle), place.host, place.port, ssl=self._context
        )
        return connection


def whole(buffer: bytearray) -> Answer | None:
    """The answer that a buffer holds, or None while it is not whole; raises `ValueError` for what is no HTTP."""
    end = buffer.find(b"\r\n\r\n")
    if end < 0:
        return None
    head, start = bytes(buffer[: end + 2]), end + 4
    if not head.startswith(b"HTTP/1."):
        raise ValueError(f"it begins with {head[:12]!r}")
    status, lower = int(head[9:12]), head.lower()
    if b"\r\ntransfer-encoding: chunked\r\n" in lower:
        body = _chunks(buffer, start)
        return None if body is None else Answer(status, head, body)
    length = int(_header(lower, b"content-length") or 0)
    if len(buffer) < start + length:
        return None
    return Answer(status, head, bytes(buffer[start : start + length]))


def _header(lower: bytes, name: bytes) -> bytes:
    _, _, rest = lower.partition(b"\r\n" + name + b":")
    return rest.partition(b"\r\n")[0].strip()


def _chunks(buffer: bytearray, at: int) -> bytes | None:
    body = bytearray()
    while (end := buffer.find(b"\r\n", at)) >= 0:
        size = int(buffer[at:end].partition(b";")[0], 16)
        begin, at = end + 2, end + 2 + size + 2
        if len(buffer) < at:
            return None
        if not size:
            return bytes(body)
        body += buffer[begin : begin + size]
    return None
