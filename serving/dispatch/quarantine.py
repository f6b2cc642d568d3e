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

So that nobody waits for a long line, or for adapters that load, what is suspected is recalled from its engine at once:
what waits there comes back and is held, and only a running step is waited for. The bound of two engines comes first:
while an engine or a gateway hangs, nobody knows what it has on board, and no suspect is asked, nor any row sentenced,
until it is ended (by Ray's health check, in 90 s or so). Suspects whose deadline ends before that are refused as too
late: one that is asked all the same might be the third engine's end, or be convicted of what the silent one carries.
Ordinary rows go on.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress

from serving.dispatch.blaming import Blaming
from serving.dispatch.flights import Flight
from serving.dispatch.ports import Claim, News, Peers
from serving.dispatch.record import Record
from serving.dispatch.suspects import Suspects
from serving.dispatch.telling import Telling
from serving.dispatch.turns import Turns
from serving.logs import log

HOLD_S = 0.5  # how long one gateway questions its suspects before it lets others have their turn
PAUSE_S = 0.05  # after a round that brought nothing to light
LONGEST_PAUSE_S = 0.5  # to which that grows: a claim names all suspects, to all gateways
RECALL_S = 0.5  # until an engine that has not given a row back is told again: the first word may have overtaken the row


class Quarantine:
    """Holds the suspected and the convicted flights of one gateway.

    `place` sends a flight on its way, `condemn` refuses every flight of convicted rows, `under_way` tells what any
    engine has on board, and `recall` has engines give back what waits there.
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
        recall: Callable[[Sequence[Flight]], None],
    ) -> None:
        self._suspects = suspects
        self._peers = peers
        self._name = name
        self._place = place
        self._condemn = condemn
        self._under_way = under_way
        self._recall = recall
        self._loop = asyncio.get_running_loop()
        self._turns = Turns(peers, name=name)
        self._record = Record(self._loop.time)
        self._waiting: list[Flight] = []
        self._asked: Flight | None = None  # the one suspect that is on its way
        self._outcome = asyncio.Event()  # that it landed
        self._stirred = asyncio.Event()  # that a suspect landed, or something was heard: it ends a pause
        self._tells = 0  # that are under way
        self._telling = Telling(suspects, peers, name=name)
        self._blaming = Blaming(suspects, self._record, self._telling, name=name, under_way=under_way)

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
        """Whether `run` has something to do. For grave rows nobody may wait here, but others do, who know half of it."""
        return bool(
            self._telling or self._suspects.grave() or any(not flight.answer.done() for flight in self._waiting)
        )

    @property
    def untold(self) -> bool:
        """Whether there is something that other gateways have not heard."""
        return bool(self._telling)

    def add(self, flight: Flight) -> None:
        """Keep a suspected or convicted flight here; `run` sees to it."""
        self._waiting.append(flight)

    def lost(self, flights: Iterable[Flight], replica: str) -> None:
        """These flights were on board of a replica that died; so is whatever other calls to it have not given back."""
        self._blaming.lost(flights, replica, asked=self._asked)
        self._call_back()
        self._stirred.set()

    def landed(self, flight: Flight, *, proven: bool) -> bool:
        """A flight is not on board any more; `proven` where an engine ran it, and lives. Whether that clears a suspect."""
        if proven:
            self._record.answered(flight.ticket)
            flight.request.lost.clear()
        suspected = self._suspects.any_suspected and self._suspects.suspected(flight.print_)
        if suspected:
            self._stirred.set()
        if suspected and proven:
            self._suspects.clear(flight.print_)
            self._telling.clear(flight.print_)
        if flight is self._asked:
            self._asked = None
            self._outcome.set()
        return suspected and proven

    async def run(self) -> None:
        """Question the suspects until none is left."""
        pause = PAUSE_S
        while self.busy:
            self._stirred.clear()
            try:
                found = await self._round()
            except Exception:  # a bug in the port: the rows must still be answered
                log("dispatch", "a round of questions failed", level=logging.ERROR, error=True)
                found = False
            if found:
                pause = PAUSE_S
            elif self.busy:
                pause = await self._rest(pause)

    async def spread(self) -> None:
        """Tell what was found out while `run` waits for its turn: who has the turn must not ask beside a new suspect."""
        if self._tells:  # they go on until all is told, or `run` is where it tells it
            return
        try:
            while self._telling:
                await self._tell()
        except Exception:  # a bug in the port; `run` tells it again
            log("dispatch", "what was found out could not be told", level=logging.ERROR, error=True)

    def heed(self, claim: Claim) -> None:
        """Another gateway's claim: take over whom it suspects, before anything else; who is grave then is for `run`."""
        if claim.gateway != self._name:
            self._blaming.heard(claim.strikes)
            self._call_back()

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
        # What there is to tell `run` may be telling, but is not done with.
        while (more := self._suspects.beyond(told)) or again or self._telling:
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
        self._blaming.heard(news.suspected)
        self._condemn(self._suspects.convictions(news.convicted))
        self.release()
        self._call_back()
        self._stirred.set()

    async def _round(self) -> bool:
        """One turn of this gateway; whether it brought anything to light."""
        if self._telling:
            await self._tell()
            return True
        self.release()
        self._call_back()
        grave, strikes = self._suspects.grave(), self._suspects.strikes()
        if not grave and not self._waiting:
            return False
        try:
            async with self._turns.turn(strikes) as abroad:
                # Who became grave since has not been claimed as such: whoever can explain it has not been asked.
                guilty = self._blaming.sentence(grave)
                asked = not abroad and await self._question(strikes)
                await self._tell()
                return asked or bool(guilty)
        except TimeoutError:
            message = "a gateway is silent: no suspect is asked beside what it may have on board"
            log("dispatch", message, level=logging.WARNING, gateway=self._name, suspects=len(strikes))
        return False

    async def _rest(self, pause: float) -> float:
        """Pause, for a shorter time where something stirs; returns the next pause, in seconds."""
        await asyncio.sleep(PAUSE_S)
        with suppress(TimeoutError):
            async with asyncio.timeout(pause - PAUSE_S):
                await self._stirred.wait()
        return PAUSE_S if self._stirred.is_set() else min(2 * pause, LONGEST_PAUSE_S)

    async def _question(self, claimed: Mapping[str, frozenset[str]]) -> bool:
        """Send suspects one by one, those whose time ends first before others; whether there were any.

        None where one is on board already, or where more is suspected than all gateways were asked about.
        """
        until, asked = self._loop.time() + HOLD_S, False
        while self._loop.time() < until and not self._telling.convicted:
            self.release()
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
        """Tell all gateways what was found out, and of these rows once more; then refuse who is convicted.

        Where that fails they are refused all the same, and told again: a copy may pass where nothing was heard till then.
        """
        convicted = frozenset(self._telling.convicted)
        self._tells += 1
        try:
            await self._telling.tell(again)
        finally:
            self._tells -= 1
            self._condemn(self._suspects.convictions(convicted))  # but for those that proof freed meanwhile
            self.release()

    def _call_back(self) -> None:
        """Have engines give back the suspects that wait there: one that they run now is answered as usual."""
        if not self._suspects.any_suspected:
            return
        now, recalled = self._loop.time(), []
        for flight in self._under_way():
            told = flight.recalled is not None and now < flight.recalled + RECALL_S
            if flight is not self._asked and not told and self._suspects.suspected(flight.print_):
                flight.recalled = now
                recalled.append(flight)
        self._recall(recalled)

    def _aboard(self) -> frozenset[str]:
        """Which suspects are on board of any engine."""
        if not self._suspects.any_suspected:
            return frozenset()
        return frozenset(flight.print_ for flight in self._under_way() if self._suspects.suspected(flight.print_))

    def release(self) -> None:
        """Send on whoever is not suspected any more; refuse whoever is convicted, once every gateway knows it."""
        held, self._waiting = self._waiting, []
        for flight in held:
            if flight.answer.done():
                continue
            if flight.print_ in self._telling.convicted:
                self._waiting.append(flight)
            elif self._suspects.convicted(flight.print_):
                self._condemn([flight.print_])
            elif self._suspects.suspected(flight.print_):
                self._waiting.append(flight)
            else:
                flight.request.lost.clear()
                self._place(flight)
