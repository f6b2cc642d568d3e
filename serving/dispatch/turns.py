"""Taking turns among gateways that share nothing: one at a time may question a suspect (Ricart and Agrawala, 1981).

A gateway claims its turn of all others. Each answers at once, unless it has the turn itself or claimed it earlier; then
when it is done. A gateway that died answers nothing and is not waited for.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from serving.dispatch.ports import Claim, Peers


class Turns:
    """One gateway's side of it; `turn` is its one verb, `consent` answers the others."""

    def __init__(self, peers: Peers, *, name: str) -> None:
        self._peers = peers
        self._name = name
        self._stamp = 0  # Lamport's clock: later than every claim that was heard of
        self._claim: Claim | None = None
        self._inside = False
        self._done = asyncio.Event()
        self._done.set()

    @asynccontextmanager
    async def turn(self, strikes: Mapping[str, frozenset[str]]) -> AsyncIterator[frozenset[str]]:
        """Have the turn within; yields the suspects that other gateways have on board of any engine. One claim at a time.

        While there are any, no suspect at all is to be sent: what dies beside one of them proves nothing.
        """
        assert self._claim is None, "the turn is claimed already"
        self._stamp += 1
        self._claim = Claim(self._stamp, self._name, strikes)
        self._done.clear()
        try:
            abroad = await self._peers.claim(self._claim)
            self._inside = True
            yield abroad
        finally:
            self._claim, self._inside = None, False
            self._done.set()

    async def consent(self, claim: Claim) -> None:
        """Returns when the other gateway may have the turn."""
        self._stamp = max(self._stamp, claim.stamp)
        # A gateway that came up meanwhile has heard of no claim, and its own looks early: who is inside stays inside.
        while self._claim is not None and (self._inside or self._claim.rank < claim.rank):
            await self._done.wait()
