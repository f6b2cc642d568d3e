"""A TCP proxy that can stall, or damage what it passes on: a network between the service and a store."""

import asyncio
import socket
import threading
from contextlib import closing, suppress
from typing import Literal

Mode = Literal["pass", "stall", "corrupt"]
PIECE = 1 << 16
BODY = 1024  # bytes: a larger piece is no header


class Proxy:
    """From a port of loopback to another one, on a thread of its own. `mode` may change at any time."""

    def __init__(self, target: int) -> None:
        self.mode: Mode = "pass"
        self.damaged = 0  # pieces
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._loop = asyncio.new_event_loop()
        self._flows = asyncio.Event()
        self._flows.set()
        self._over = asyncio.Event()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._run(),), daemon=True)
        self._thread.start()

    def turn(self, mode: Mode) -> None:
        """From now on: pass everything on; hold everything back, with connections open; or damage answers."""
        self.mode = mode
        self._loop.call_soon_threadsafe(self._flows.clear if mode == "stall" else self._flows.set)

    def close(self) -> None:
        """Cut every connection."""
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join()
        self._loop.close()

    async def _run(self) -> None:
        server = await asyncio.start_server(self._serve, sock=self._listener)
        await self._over.wait()
        server.close()
        serving = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in serving:
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)

    async def _serve(self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        with closing(to_client), suppress(OSError, asyncio.CancelledError):  # cancelled by `close`, and by nobody else
            server, to_server = await asyncio.open_connection("127.0.0.1", self._target)
            with closing(to_server):
                await asyncio.gather(
                    self._pump(client, to_server, damage=False), self._pump(server, to_client, damage=True)
                )

    async def _pump(self, source: asyncio.StreamReader, target: asyncio.StreamWriter, *, damage: bool) -> None:
        with suppress(OSError):
            while piece := await source.read(PIECE):
                await self._flows.wait()
                if damage and self.mode == "corrupt" and len(piece) > BODY:
                    piece = piece[:-1] + bytes([piece[-1] ^ 1])
                    self.damaged += 1
                target.write(piece)
                await target.drain()
        with suppress(OSError):
            target.close()
