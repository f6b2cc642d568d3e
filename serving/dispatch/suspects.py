"""Which rows may have killed a replica: strikes by fingerprint, who is cleared, and who is convicted."""

from collections.abc import Callable, Iterable
from hashlib import blake2b
from typing import Generic, TypeVar

from serving.dispatch.ports import Conviction
from serving.request import Ticket

Value = TypeVar("Value")

FATAL = 2  # lost replicas that a row was on board of
REMEMBERED_S = 3600.0
REMEMBERED = 10_000  # fingerprints and losses, of each kind; the oldest are forgotten first


def fingerprint(ticket: Ticket) -> str:
    """What the row is, whoever sends it and however often: pinned versions, composition, ids, and what is asked."""
    asked = (ticket.composition, ticket.head, ticket.embedding, ticket.reduction, ticket.inserted, ticket.word_starts)
    digest = blake2b(repr(asked).encode(), digest_size=16)
    digest.update(ticket.input_ids.tobytes())
    if ticket.type_ids is not None:
        digest.update(b"types")
        digest.update(ticket.type_ids.tobytes())
    return digest.hexdigest()


class Suspects:
    """What one gateway knows of rows that were on board of lost replicas; all gateways tell each other.

    A conviction is proven where the row was the only suspect on board of the second replica; that explains both losses.
    Else it may be any row that was on board of both, or none of them: all are refused as long, for to try one of them
    could cost a third replica.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._strikes = _Memory[frozenset[str]](clock)
        self._convicts = _Memory[Conviction](clock)
        self._explained = _Memory[str](clock)  # lost replicas whose culprit is known

    def __bool__(self) -> bool:
        """Whether any row is suspected or convicted: else nobody needs a fingerprint."""
        return bool(self._strikes) or bool(self._convicts)

    @property
    def any_suspected(self) -> bool:
        """Whether any row may only travel alone."""
        return bool(self._strikes)

    def strike(self, print_: str, replicas: Iterable[str], *, alone: bool = False) -> bool:
        """Note that a row was on board of lost replicas (`alone`: the only suspect); whether that convicts it now."""
        new = frozenset(replica for replica in replicas if self._explained.get(replica) is None)
        if not new or self.convicted(print_):
            return False
        strikes = new | (self._strikes.get(print_) or frozenset())
        self._strikes.put(print_, strikes, REMEMBERED_S)
        if len(strikes) < FATAL:
            return False
        self.convict(print_, Conviction(strikes, alone))
        return True

    def convict(self, print_: str, conviction: Conviction) -> None:
        """Hold a row responsible for the loss of replicas; what is proven clears whoever else was on board of them."""
        self._strikes.drop(print_)
        if not self.convicted(print_):  # else it is heard of again: that makes nothing of it later
            self._convicts.put(print_, conviction, REMEMBERED_S)
        if not conviction.proven:
            return
        for replica in conviction.losses:
            self._explained.put(replica, print_, REMEMBERED_S)
        for other, strikes in self._strikes.items():
            self._strikes.drop(other)
            if strikes - conviction.losses:
                self._strikes.put(other, strikes - conviction.losses, REMEMBERED_S)

    def clear(self, print_: str) -> None:
        """The row was answered: it kills nobody."""
        self._strikes.drop(print_)

    def suspected(self, print_: str) -> bool:
        """Whether the row may only travel alone."""
        return self._strikes.get(print_) is not None

    def convicted(self, print_: str) -> bool:
        """Whether the row may not travel at all."""
        return self._convicts.get(print_) is not None

    def strikes(self, prints: Iterable[str]) -> dict[str, frozenset[str]]:
        """The strikes of these rows, where they have any."""
        found = {print_: self._strikes.get(print_) for print_ in prints}
        return {print_: strikes for print_, strikes in found.items() if strikes}

    def convictions(self, prints: Iterable[str] | None = None) -> dict[str, Conviction]:
        """The convictions of these rows, where they have one; of all rows, where none are named."""
        held = dict(self._convicts.items())
        return held if prints is None else {print_: held[print_] for print_ in prints if print_ in held}

    def check(self) -> None:
        """Assert that a conviction ends every suspicion: of the row, and of others for the same losses."""
        explained = {replica for replica, _ in self._explained.items()}
        for print_, strikes in self._strikes.items():
            assert not self.convicted(print_), f"{print_} is convicted and still suspected"
            assert 0 < len(strikes) < FATAL, f"{print_} has {len(strikes)} strikes"
            assert not strikes & explained, f"{print_} is suspected of losses that are explained"


class _Memory(Generic[Value]):
    """Values by key, each for a while, the oldest forgotten first where they are too many."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock  # seconds, monotonic
        self._held: dict[str, tuple[Value, float]] = {}  # with its end, in the order of arrival

    def __bool__(self) -> bool:
        now = self._clock()
        while self._held and self._held[oldest := next(iter(self._held))][1] <= now:
            del self._held[oldest]
        return bool(self._held)

    def get(self, key: str) -> Value | None:
        value, end = self._held.get(key, (None, 0.0))
        return value if end > self._clock() else None

    def put(self, key: str, value: Value, seconds: float) -> None:
        self._held.pop(key, None)
        self._held[key] = (value, self._clock() + seconds)
        if len(self._held) > REMEMBERED:
            del self._held[next(iter(self._held))]

    def drop(self, key: str) -> None:
        self._held.pop(key, None)

    def items(self) -> tuple[tuple[str, Value], ...]:
        now = self._clock()
        return tuple((key, value) for key, (value, end) in self._held.items() if end > now)
