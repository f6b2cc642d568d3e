"""Suspected rows, one at a time: of all suspects of all gateways at most one is on board of any engine.

The lane takes its turn among the gateways, sends one row and waits what becomes of it. An answer clears it, and every
copy of it; a loss convicts it, which all gateways hear before its client does, and before the turn passes on. So who
has the turn knows all that was found out: a row that was on board of two lost replicas and that nobody's guilt explains
until then is convicted without proof, and untried.

A loss while one is asked proves its guilt only if nobody else who may have done it is on board. So a claim tells all
that is suspected; who hears of a loss that it has not seen suspects at once what it has on board there, holds all
copies of suspects from then on, and tells whom it suspects beyond the claim before it consents. Until nobody learns
anything new, and nothing suspected by anybody is on board of any engine, nobody is asked. Whoever killed the first
replica is then suspected everywhere, and on board nowhere: what travels beside the question did not do it.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
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
        self._record = Record(self._loop.time)
        self._waiting: list[Flight] = []
        self._asked: Flight | None = None  # the one suspect that is on its way
        self._outcome = asyncio.Event()  # that it landed
        self._untold: set[str] = set()  # convicted rows that the other gateways have not heard of
        self._struck: set[str] = set()  # the same of suspected ones
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
        if self._untold or self._struck or any(not flight.answer.done() for flight in self._waiting):
            return True
        return bool(self._suspects.grave())  # nobody waits for it here, but others may, who know half of it

    def add(self, flight: Flight) -> None:
        """Keep a suspected or convicted flight here; `run` sees to it."""
        self._waiting.append(flight)

    def lost(self, flights: Iterable[Flight], replica: str) -> None:
        """These flights were on board of a replica that died; so is whatever other calls to it have not given back."""
        self._suspects.learn([replica])
        known = self._suspects.strikes()
        asked = self._asked
        if asked is not None and asked.replica == replica:  # first of all: it explains the loss for all others
            self._strike(asked, replica, alone=True)
        for flight in flights:
            self._strike(flight, replica, alone=False)
        self._blame({replica})
        new = len(self._suspects.beyond(known))
        if new:
            log("dispatch", "rows are suspected of a loss", gateway=self._name, replica=replica, rows=new)

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

    def heed(self, claim: Claim) -> None:
        """Another gateway's claim: take over whom it suspects, before anything else; `run` may have to do then.

        Rows that are grave with its strikes added to ours are for our own turn as well.
        """
        if claim.gateway != self._name:
            self._suspect(claim.strikes)

    async def consent(self, claim: Claim) -> frozenset[str]:
        """Answer a claim that was heeded, when its gateway may go on: who is on board here.

        All that it does not know is told first.
        """
        if claim.gateway == self._name:
            return frozenset()
        await self._turns.consent(claim)
        # It may not have been there to hear of it, or too slow: who is convicted, and who explains what it asks about.
        culprits = self._suspects.culprits(frozenset().union(*claim.strikes.values()))
        again = frozenset(self._suspects.convictions(culprits | claim.strikes.keys()))
        told = dict(claim.strikes)
        # What is untold `run` may be telling, but is not done with.
        while (more := self._suspects.beyond(told)) or again or self._untold:
            told.update(self._suspects.strikes(more))
            await self._tell(again=again | more)
            again = frozenset()
        return self._aboard()

    @property
    def news(self) -> News:
        """Whoever is convicted or suspected here: for a gateway that comes up."""
        return News(self._name, convicted=self._suspects.convictions(), suspected=self._suspects.strikes())

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
            self._suspects.learn(conviction.losses)
            self._suspects.convict(print_, conviction)
        self._suspect(news.suspected)
        self._condemn(self._suspects.convictions(news.convicted))
        self._release()

    async def _round(self) -> bool:
        """One turn of this gateway; whether it brought anything to light."""
        if self._untold or self._struck:
            await self._tell()
            return True
        self._release()
        grave, strikes = self._suspects.grave(), self._suspects.strikes()
        if not grave and not self._waiting:
            return False
        async with self._turns.turn(strikes) as abroad:
            # Who became grave since has not been claimed as such: whoever can explain it has not been asked.
            guilty = self._suspects.sentence(grave)
            if guilty:
                message = "rows may have taken two replicas down"
                log("dispatch", message, level=logging.ERROR, gateway=self._name, losses=self._losses(guilty))
            self._untold |= guilty
            asked = not abroad and await self._question(strikes)
            await self._tell()
        return asked or bool(guilty)

    async def _question(self, claimed: Mapping[str, frozenset[str]]) -> bool:
        """Send suspects one by one, those whose time ends first before others; whether there were any.

        None where one is on board already, or where more is suspected than all gateways were asked about.
        """
        until, asked = self._loop.time() + HOLD_S, False
        while self._loop.time() < until and not self._untold:
            self._release()
            lesser = self._suspects.strikes().keys() - self._suspects.grave()
            free = [flight for flight in self._waiting if flight.print_ in lesser]
            if not free or self._aboard() or self._suspects.beyond(claimed):
                break
            asked = True
            self._asked = flight = min(free, key=lambda flight: flight.deadline)
            self._waiting.remove(flight)
            self._outcome.clear()
            self._place(flight)
            row, content = flight.ticket.id, flight.print_
            log("dispatch", "a suspect is asked", gateway=self._name, row=row, content=content, replica=flight.replica)
            await self._outcome.wait()
        return asked

    async def _tell(self, again: AbstractSet[str] = frozenset()) -> None:
        """Tell all gateways what was found out, and of these rows once more; then refuse who is convicted."""
        convicted, cleared = frozenset(self._untold), frozenset(self._cleared)
        known = self._suspects.convictions(convicted | again)
        struck, self._struck = self._suspects.strikes(self._struck | again), set()
        if convicted or known or cleared or struck:
            try:
                await self._peers.tell(News(self._name, cleared, known, struck))
            finally:
                self._untold -= convicted
                self._cleared -= cleared
                self._condemn(self._suspects.convictions(convicted))  # but for those that proof freed meanwhile
                self._release()

    def _suspect(self, strikes: Mapping[str, frozenset[str]]) -> None:
        """Suspect whom another gateway suspects, and whatever is on board here of a replica that it saw die."""
        for print_, replicas in strikes.items():
            self._suspects.strike(print_, replicas)
        lost = frozenset().union(*strikes.values())
        self._suspects.learn(lost)
        self._blame(lost)

    def _blame(self, lost: AbstractSet[str]) -> None:
        """Suspect whatever is on board of replicas that are known to be lost, though its call has not ended yet."""
        for flight in self._under_way():
            if flight.replica is not None and flight.replica in lost:
                self._strike(flight, flight.replica, alone=False)

    def _aboard(self) -> frozenset[str]:
        """Which suspects are on board of any engine."""
        if not self._suspects.any_suspected:
            return frozenset()
        return frozenset(flight.print_ for flight in self._under_way() if self._suspects.suspected(flight.print_))

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
        if not self._suspects.may_blame(replica, flight.left):
            return
        if not alone and self._record.vouches(flight.ticket, replica, flight.left):
            return
        flight.request.lost.add(replica)  # two rows of a request that kill are no better than one that kills twice
        before = self._suspects.strikes([flight.print_])
        proven = self._suspects.strike(flight.print_, flight.request.lost, alone=alone)
        if self._suspects.strikes([flight.print_]) not in (before, {}):  # what is told twice makes others tell it again
            self._struck.add(flight.print_)
        if proven:
            self._untold.add(flight.print_)
            losses, message = self._losses([flight.print_]), "a row took two replicas down"
            log("dispatch", message, level=logging.ERROR, gateway=self._name, row=flight.ticket.id, losses=losses)

    def _losses(self, prints: Iterable[str]) -> dict[str, list[str]]:
        """For the log: what convicted rows are held responsible for."""
        return {print_: sorted(c.losses) for print_, c in self._suspects.convictions(prints).items()}
