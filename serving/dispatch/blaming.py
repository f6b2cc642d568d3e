"""Who is blamed for the loss of a replica: what this gateway had on board there, or heard that others had."""

import logging
from collections.abc import Callable, Iterable, Mapping
from collections.abc import Set as AbstractSet

from serving.dispatch.flights import Flight
from serving.dispatch.record import Record
from serving.dispatch.suspects import Suspects
from serving.dispatch.telling import Telling
from serving.logs import log


class Blaming:
    """Strikes rows, logs it, and hands to `telling` what the other gateways have to hear of it.

    `under_way` tells what any engine has on board.
    """

    def __init__(
        self,
        suspects: Suspects,
        record: Record,
        telling: Telling,
        *,
        name: str,
        under_way: Callable[[], Iterable[Flight]],
    ) -> None:
        self._suspects = suspects
        self._record = record
        self._telling = telling
        self._name = name
        self._under_way = under_way

    def lost(self, flights: Iterable[Flight], replica: str, *, asked: Flight | None) -> None:
        """These flights were on board of a replica that died; so is whatever other calls to it have not given back.

        `asked` is the suspect that travels alone.
        """
        self._suspects.learn([replica])
        known = self._suspects.strikes()
        if asked is not None and asked.replica == replica:  # first of all: it explains the loss for all others
            self._strike(asked, replica, alone=True)
        for flight in flights:
            self._strike(flight, replica, alone=False)
        self._blame({replica})
        new = len(self._suspects.beyond(known))
        if new:
            log("dispatch", "rows are suspected of a loss", gateway=self._name, replica=replica, rows=new)

    def heard(self, strikes: Mapping[str, frozenset[str]]) -> None:
        """Suspect whom another gateway suspects, and whatever is on board here of a replica that it saw die."""
        for print_, replicas in strikes.items():
            self._suspects.strike(print_, replicas)
        lost = frozenset().union(*strikes.values())
        self._suspects.learn(lost)
        self._blame(lost)

    def sentence(self, grave: Iterable[str]) -> frozenset[str]:
        """Convict those of these rows that nothing explains, in the turn of this gateway; which ones."""
        guilty = self._suspects.sentence(grave)
        if guilty:
            message = "rows may have taken two replicas down"
            log("dispatch", message, level=logging.ERROR, gateway=self._name, losses=self._losses(guilty))
        self._telling.convict(guilty)
        return guilty

    def _blame(self, lost: AbstractSet[str]) -> None:
        """Suspect whatever is on board of replicas that are known to be lost, though its call has not ended yet."""
        for flight in self._under_way():
            if flight.replica is not None and flight.replica in lost:
                self._strike(flight, flight.replica, alone=False)

    def _strike(self, flight: Flight, replica: str, *, alone: bool) -> None:
        if not self._suspects.may_blame(replica, flight.left):
            return
        if not alone and self._record.vouches(flight.ticket, replica, flight.left):
            return
        flight.request.lost.add(replica)  # two rows of a request that kill are no better than one that kills twice
        before = self._suspects.strikes([flight.print_])
        proven = self._suspects.strike(flight.print_, flight.request.lost, alone=alone)
        if self._suspects.strikes([flight.print_]) not in (before, {}):  # what is told twice makes others tell it again
            self._telling.strike(flight.print_)
        if proven:
            self._telling.convict([flight.print_])
            losses, message = self._losses([flight.print_]), "a row took two replicas down"
            log("dispatch", message, level=logging.ERROR, gateway=self._name, row=flight.ticket.id, losses=losses)

    def _losses(self, prints: Iterable[str]) -> dict[str, list[str]]:
        """For the log: what convicted rows are held responsible for."""
        return {print_: sorted(c.losses) for print_, c in self._suspects.convictions(prints).items()}
