"""An engine at the other end of a wire: a real port on loopback, and nothing behind it."""

import asyncio
import threading
from contextlib import asynccontextmanager

import numpy as np

from serving.replicas.listener import Listener
from serving.request import Result, Timing


class Engine:
    """Answers from another thread when it is told to."""

    def __init__(self):
        self.taken = []
        self.cancelled = []
        self.sinks = []
        self.changed = asyncio.Condition()

    def submit(self, tickets, sink):
        self.taken += [ticket.id for ticket in tickets]
        self.sinks.append(sink)
        self._tell()

    def cancel(self, ids):
        self.cancelled += ids
        self._tell()

    def answer(self, *ids, sink=-1, width=2):
        """One group, from a thread."""
        group = tuple(Result(ident, np.zeros(width, np.float32), Timing(1, 2, 3), {}, "e1", 1) for ident in ids)
        thread = threading.Thread(target=self.sinks[sink], args=(group,))
        thread.start()
        thread.join()

    async def until(self, true):
        """Wait until something holds that a message may change."""
        async with self.changed:
            await asyncio.wait_for(self.changed.wait_for(true), 20)

    async def take(self, count):
        await self.until(lambda: len(self.taken) >= count)

    def _tell(self):
        async def notify():
            async with self.changed:
                self.changed.notify_all()

        asyncio.get_running_loop().create_task(notify())


@asynccontextmanager
async def listening(engine, host="127.0.0.1"):
    """The address of an engine."""
    engine.listener = listener = Listener(engine, host)
    try:
        yield await listener.address()
    finally:
        await listener.close()


def die(listener):
    """As a process that is killed: its port is nobody's, and its connections end."""
    listener._server.close()
    for guest in tuple(listener._guests):
        guest.cut()


@asynccontextmanager
async def pretending(behaviour):
    """Somebody else at a port; a coroutine function of a reader and a writer says how it behaves. Its port."""
    server = await asyncio.start_server(behaviour, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


def message(kind, data=b""):
    """A message as it travels."""
    return len(data).to_bytes(4, "little") + bytes([kind]) + data
