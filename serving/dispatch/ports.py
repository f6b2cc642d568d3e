"""The world outside of `Dispatcher`: the engines, and the other gateways; and how calls to an engine end badly."""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from serving.request import Reply, Ticket


class ReplicaLost(Exception):
    """The replica died with the call on board; what it did not answer may be sent again, and may be what killed it."""


class ReplicaLeft(Exception):
    """The replica was gone before the call reached it, let go of it on its way out, or lives and was parted from us."""


class EnginePort(Protocol):
    """The engines as `Dispatcher` sees them. Implemented by `serving.dispatch.wires.Wires`."""

    def call(self, replica: str, tickets: Sequence[Ticket]) -> AsyncIterator[tuple[Reply, ...]]:
        """Hand tickets to one replica; yields replies in the groups that finish. Raises `ReplicaLost`, `ReplicaLeft`."""
        ...

    async def cancel(self, replica: str, ids: Sequence[str]) -> None:
        """Have the replica refuse these tickets where they wait there; one that it runs is answered as usual.

        One that has not left yet runs all the same. May raise `ReplicaLost` or `ReplicaLeft`.
        """
        ...


@dataclass(frozen=True, slots=True)
class Claim:
    """A gateway asks all others for its turn; of two claims the smaller goes first. It says whom it suspects of what."""

    stamp: int
    gateway: str
    strikes: Mapping[str, frozenset[str]]  # fingerprint -> lost replicas that it was on board of

    @property
    def rank(self) -> tuple[int, str]:
        """The order of claims, the same everywhere."""
        return self.stamp, self.gateway


@dataclass(frozen=True, slots=True)
class Conviction:
    """The losses that a row is held responsible for; `proven` where it was the one suspect on board of the last."""

    losses: frozenset[str]
    proven: bool


@dataclass(frozen=True, slots=True)
class News:
    """What one gateway has found out, for all others; all of it by fingerprint."""

    gateway: str
    cleared: frozenset[str] = frozenset()
    convicted: Mapping[str, Conviction] = field(default_factory=dict)
    suspected: Mapping[str, frozenset[str]] = field(default_factory=dict)  # with the lost replicas, as in `Claim`

    @property
    def greets(self) -> bool:
        """Whether it says nothing but that a gateway came up, which wants to hear all that others know."""
        return not (self.cleared or self.convicted or self.suspected)


class Peers(Protocol):
    """The other gateways. Implemented by `serving.routing.GatewayCalls`."""

    async def claim(self, claim: Claim) -> frozenset[str]:
        """Ask for the turn; returns when every other live gateway consents, and has told all others whom it suspects.

        Which suspects, of the claimant and its own, any of them has on board: while there are any, none is to be sent.
        Raises `TimeoutError` where one does not answer, and another error where one fails: nothing is known of it, so
        that there is no turn.
        """
        ...

    async def tell(self, news: News) -> Sequence[News]:
        """Returns when every live gateway has heard, or a while has passed: what each answered.

        To a greeting that is whoever is convicted and suspected there, to other news nothing.
        """
        ...
