"""Suspected rows, one at a time: of all suspects of all gateways at most one is on board of any engine.

The lane takes its turn among the gateways, sends one row and waits what becomes of it. An answer clears it, and every
copy of it; a loss convicts it, which all gateways hear before its client does, and before the turn passes on. So who
has the turn knows all that was found out: a row that was on board of two lost replicas and that nobody's guilt explains
until then is convicted without proof, and untried.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable
from collections.abc import Set as AbstractSet

from serving.dispatch.flights import Flight
from serving.dispatch.ports import Claim, News, Peers
from serving.dispatch.record import Record
from serving.dispatch.suspects import Suspects
from serving.dispatch.turns import Turns
from serving.logs import log

HOLD_S = 0.5  # how long one gateway questions its suspects before it lets others have their turn
PAUSE_S = 0.05  # until suspects are claimed again that others had on board


class Quarantine:
    """Holds the suspected and the convicted flights of one gateway.

    `place` sends a flight on its way, `condemn` refuses every flight of convicted rows, `under_way` tells what any
    engine has on board.
    """

    def __init__(
        self,
        suspects: Suspects,
        peers: Peers,
        *,
        name: str,
        place: Callable[[Flight], None],
        condemn: Callable[[Iterable[str]], None],
        under_way: Callable[[], Iterable[Flight]],
    ) -> None:
        self._suspects = suspects
        self._peers = peers
        self._name = name
        self._place = place
        self._condemn = condemn
        self._under_way = under_way
        self._loop = asyncio.get_running_loop()
        self._turns = Turns(peers, name=name)
        self._record = Record()
        self._waiting: list[Flight] = []
        self._asked: Flight | None = None  # the one suspect that is on its way
        self._outcome = asyncio.Event()  # that it landed
        self._untold: set[str] = set()  # convicted rows that the other gateways have not heard of
        self._cleared: set[str] = set()  # the same of cleared ones

    @property
    def held(self) -> tuple[Flight, ...]:
        """The flights that wait here."""
        return tuple(self._waiting)

    @property
    def asked(self) -> Flight | None:
        """The suspect that is on its way."""
        return self._asked

    @property
    def busy(self) -> bool:
        """Whether `run` has something to do."""
        if self._untold or any(not flight.answer.done() for flight in self._waiting):
            return True
        return bool(self._suspects.grave())  # nobody waits for it here, but others may, who know half of it

    def add(self, flight: Flight) -> None:
        """Keep a suspected or convicted flight here; `run` sees to it."""
        self._waiting.append(flight)

    def lost(self, flights: Iterable[Flight], replica: str) -> None:
        """These flights were on board of a replica that died."""
        asked = self._asked
        if asked is not None and asked.replica == replica:  # first of all: it explains the loss for all others
            self._strike(asked, replica, alone=True)
        for flight in flights:
            self._strike(flight, replica, alone=False)

    def landed(self, flight: Flight, *, proven: bool) -> None:
        """A flight is not on board any more; `proven` where an engine ran it, and lives."""
        if proven:
            self._record.answered(flight.ticket)
            flight.request.lost.clear()
        if proven and self._suspects.any_suspected and self._suspects.suspected(flight.print_):
            self._suspects.clear(flight.print_)
            self._cleared.add(flight.print_)
        if flight is self._asked:
            self._asked = None
            self._outcome.set()

    async def run(self) -> None:
        """Question the suspects until none is left."""
        while self.busy:
            try:
                asked = await self._round()
            except Exception:  # a bug in the port: the rows must still be answered
                log("dispatch", "a round of questions failed", level=logging.ERROR, error=True)
                asked = False
            if not asked and self.busy:
                await asyncio.sleep(PAUSE_S)

    async def consent(self, claim: Claim) -> frozenset[str]:
        """Another gateway's claim: take over whom it suspects, and answer when it may go on: whom it must not send.

        A row that is grave with its strikes added to ours is for our own turn: `run` has something to do then.
        """
        if claim.gateway == self._name:
            return frozenset()
        for print_, replicas in claim.strikes.items():
            self._suspects.strike(print_, replicas)
        # It may not have been there to hear of it, or too slow: who is convicted, and who explains what it asks about.
        culprits = self._suspects.culprits(frozenset().union(*claim.strikes.values()))
        self._untold |= self._suspects.convictions(culprits | claim.strikes.keys()).keys()
        if self._untold:
            await self._tell()
        await self._turns.consent(claim)
        return frozenset(claim.strikes.keys() & self._ordinary()) | self._suspects.grave(claim.strikes)

    @property
    def news(self) -> News:
        """Whoever is convicted here: for a gateway that comes up."""
        return News(self._name, convicted=self._suspects.convictions())

    async def greet(self) -> None:
        """Come up: what the other gateways found out before is heard."""
        for news in await self._peers.tell(News(self._name)):
            self.hear(news)

    def hear(self, news: News) -> None:
        """What another gateway found out."""
        if news.gateway == self._name:
            return
        for print_ in news.cleared:
            self._suspects.clear(print_)
        for print_, conviction in news.convicted.items():
            self._suspects.convict(print_, conviction)
        self._condemn(self._suspects.convictions(news.convicted))
        self._release()

    async def _round(self) -> bool:
        """One turn of this gateway; whether it brought anything to light."""
        if self._untold:
            await self._tell()
            return True
        self._release()
        grave = self._suspects.grave()
        strikes = self._suspects.strikes(grave.union(flight.print_ for flight in self._waiting))
        if not strikes:
            return False
        async with self._turns.turn(strikes) as abroad:
            # Who became grave since has not been claimed as such: whoever can explain it has not been asked.
            guilty = self._suspects.sentence(grave)
            if guilty:
                log("dispatch", "rows may have taken two replicas down", level=logging.ERROR, rows=len(guilty))
            self._untold |= guilty
            asked = await self._question(strikes.keys() - abroad - self._ordinary())
            await self._tell()
        return asked or bool(guilty)

    async def _question(self, prints: AbstractSet[str]) -> bool:
        """Send such suspects one by one, those whose time ends first before others; whether there were any."""
        until, asked = self._loop.time() + HOLD_S, False
        while self._loop.time() < until and not self._untold:
            self._release()
            lesser = prints - self._suspects.grave(prints)
            free = [flight for flight in self._waiting if flight.print_ in lesser]
            if not free:
                break
            asked = True
            self._asked = flight = min(free, key=lambda flight: flight.deadline)
            self._waiting.remove(flight)
            self._outcome.clear()
            self._place(flight)
            await self._outcome.wait()
        return asked

    async def _tell(self) -> None:
        """Tell all gateways what was found out, then refuse who is convicted."""
        convicted, cleared = frozenset(self._untold), frozenset(self._cleared)
        if convicted or cleared:
            try:
                await self._peers.tell(News(self._name, cleared, self._suspects.convictions(convicted)))
            finally:
                self._untold -= convicted
                self._cleared -= cleared
                self._condemn(self._suspects.convictions(convicted))  # but for those that proof freed meanwhile
                self._release()

    def _ordinary(self) -> set[str]:
        """Fingerprints of what is on board of any engine beside the suspect that is asked."""
        return {flight.print_ for flight in self._under_way() if flight is not self._asked}

    def _release(self) -> None:
        """Send on whoever is not suspected any more; refuse whoever is convicted, once every gateway knows it."""
        held, self._waiting = self._waiting, []
        for flight in held:
            if flight.answer.done():
                continue
            if flight.print_ in self._untold:
                self._waiting.append(flight)
            elif self._suspects.convicted(flight.print_):
                self._condemn([flight.print_])
            elif self._suspects.suspected(flight.print_):
                self._waiting.append(flight)
            else:
                flight.request.lost.clear()
                self._place(flight)

    def _strike(self, flight: Flight, replica: str, *, alone: bool) -> None:
        if not alone and self._record.vouches(flight.ticket, replica):
            return
        flight.request.lost.add(replica)  # two rows of a request that kill are no better than one that kills twice
        if self._suspects.strike(flight.print_, flight.request.lost, alone=alone):
            self._untold.add(flight.print_)
            log("dispatch", "a row took two replicas down", level=logging.ERROR, row=flight.ticket.id)
