"""Which rows may have killed a replica: strikes by fingerprint, who is cleared, and who is convicted."""

from collections.abc import Callable, Iterable, Mapping
from hashlib import blake2b
from typing import Generic, TypeVar

from serving.dispatch.ports import Conviction
from serving.request import Ticket

Value = TypeVar("Value")

FATAL = 2  # lost replicas that a row was on board of
REMEMBERED_S = 3600.0
REMEMBERED = 10_000  # fingerprints and losses, of each kind; the oldest are forgotten first


def fingerprint(ticket: Ticket) -> str:
    """What the row is, whoever sends it and however often: pinned versions, composition, ids, pixels, and what is asked."""
    asked = (ticket.composition, ticket.head, ticket.embedding, ticket.reduction, ticket.inserted, ticket.word_starts)
    digest = blake2b(repr(asked).encode(), digest_size=16)
    digest.update(ticket.input_ids.tobytes())
    if ticket.type_ids is not None:
        digest.update(b"types")
        digest.update(ticket.type_ids.tobytes())
    if ticket.pixels is not None:
        digest.update(b"pixels")
        digest.update(ticket.pixels.tobytes())
    return digest.hexdigest()


class Suspects:
    """What one gateway knows of rows that were on board of lost replicas; all gateways tell each other.

    A conviction is proven where the row was the only suspect on board of the second replica; that explains both losses.
    Else a row that was on board of two is grave: it may be any such row, or none of them, and to try one could cost a
    third replica. Once all gateways have been heard, `sentence` convicts what nothing explains; proof lifts it again.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock  # seconds, monotonic
        self._strikes = _Memory[frozenset[str]](clock)
        self._convicts = _Memory[Conviction](clock)
        self._explained = _Memory[str](clock)  # lost replicas whose culprit is known
        self._losses = _Memory[float](clock)  # lost replicas, and when that was heard of first
        self._survived = _Memory[frozenset[str]](clock)  # losses that a row was cleared of: old claims still name them

    def __bool__(self) -> bool:
        """Whether any row is suspected or convicted: else nobody needs a fingerprint."""
        return bool(self._strikes) or bool(self._convicts)

    @property
    def any_suspected(self) -> bool:
        """Whether any row may only travel alone."""
        return bool(self._strikes)

    def learn(self, losses: Iterable[str]) -> None:
        """These replicas died: what is sent there after this did not do it."""
        for replica in losses:
            if self._losses.get(replica) is None:
                self._losses.put(replica, self._clock(), REMEMBERED_S)

    def may_blame(self, replica: str, left: float) -> bool:
        """Whether what was sent at that time to a replica may have killed it."""
        seen = self._losses.get(replica)
        return seen is None or left <= seen

    def strike(self, print_: str, replicas: Iterable[str], *, alone: bool = False) -> bool:
        """Note that a row was on board of lost replicas (`alone`: the only suspect); whether that is proof."""
        known, replicas = self._strikes.get(print_) or frozenset(), frozenset(replicas)
        if replicas <= known and not alone:  # every claim tells all strikes
            return False
        survived = self._survived.get(print_) or frozenset()
        new = frozenset(replica for replica in replicas if self._explained.get(replica) is None) - survived
        if not new or self.convicted(print_):
            return False
        strikes = new | known
        if strikes != known:  # else heard of again: that makes nothing of it later
            self._strikes.put(print_, strikes, REMEMBERED_S)
        if not alone or len(strikes) < FATAL:
            return False
        self.convict(print_, Conviction(strikes, proven=True))
        return True

    def grave(self, prints: Iterable[str] | None = None) -> frozenset[str]:
        """Which of these rows (of all) were on board of so many lost replicas that they may not even travel alone."""
        return frozenset(print_ for print_, strikes in self.strikes(prints).items() if len(strikes) >= FATAL)

    def beyond(self, known: Mapping[str, frozenset[str]]) -> frozenset[str]:
        """Which rows are suspected of more than these strikes."""
        return frozenset(
            print_ for print_, strikes in self._strikes.items() if strikes - known.get(print_, frozenset())
        )

    def sentence(self, prints: Iterable[str]) -> frozenset[str]:
        """Convict those of these rows that are grave, without proof; which ones."""
        guilty = self.grave(prints)
        for print_, strikes in self.strikes(guilty).items():
            self.convict(print_, Conviction(strikes, proven=False))
        return guilty

    def convict(self, print_: str, conviction: Conviction) -> None:
        """Hold a row responsible for the loss of replicas; what is proven clears whoever else was on board of them.

        Where others are proven to have caused all these losses, there is nothing to hold it responsible for.
        """
        if not conviction.proven and self._explains(conviction.losses):
            return
        self._strikes.drop(print_)
        known = self._convicts.get(print_)
        if known is None or conviction.proven > known.proven:  # else heard of again: that makes nothing of it later
            self._convicts.put(print_, conviction, REMEMBERED_S)
        if conviction.proven:
            for replica in conviction.losses:
                self._explained.put(replica, print_, REMEMBERED_S)
            self._lift(conviction.losses)

    def clear(self, print_: str) -> None:
        """The row was answered: it kills nobody, and did not kill what it is suspected of."""
        strikes = self._strikes.get(print_)
        if strikes:
            self._survived.put(print_, strikes | (self._survived.get(print_) or frozenset()), REMEMBERED_S)
            self._strikes.drop(print_)

    def suspected(self, print_: str) -> bool:
        """Whether the row may only travel alone."""
        return self._strikes.get(print_) is not None

    def convicted(self, print_: str) -> bool:
        """Whether the row may not travel at all."""
        return self._convicts.get(print_) is not None

    def culprits(self, losses: Iterable[str]) -> frozenset[str]:
        """The rows that are proven to have caused any of these losses."""
        return frozenset(print_ for loss in losses if (print_ := self._explained.get(loss)) is not None)

    def strikes(self, prints: Iterable[str] | None = None) -> dict[str, frozenset[str]]:
        """The strikes of these rows, where they have any; of all rows, where none are named."""
        if prints is None:
            return dict(self._strikes.items())
        found = {print_: self._strikes.get(print_) for print_ in prints}
        return {print_: strikes for print_, strikes in found.items() if strikes}

    def convictions(self, prints: Iterable[str] | None = None) -> dict[str, Conviction]:
        """The convictions of these rows, where they have one; of all rows, where none are named."""
        held = dict(self._convicts.items())
        return held if prints is None else {print_: held[print_] for print_ in prints if print_ in held}

    def check(self) -> None:
        """Assert that a conviction ends suspicion of the row, and a proven one all that others suffer for its losses."""
        explained = {replica for replica, _ in self._explained.items()}
        for print_, strikes in self._strikes.items():
            assert not self.convicted(print_), f"{print_} is convicted and still suspected"
            assert strikes, f"{print_} is suspected of nothing"
            assert not strikes & explained, f"{print_} is suspected of losses that are explained"
            assert not strikes & (self._survived.get(print_) or frozenset()), (
                f"{print_} is suspected of what it survived"
            )
        for print_, conviction in self._convicts.items():
            assert len(conviction.losses) >= FATAL, f"{print_} is convicted of {len(conviction.losses)} losses"
            known = conviction.losses <= explained
            assert known == conviction.proven, (
                f"{print_} is convicted of {conviction}, and {sorted(explained)} explained"
            )

    def _explains(self, losses: frozenset[str]) -> bool:
        """Whether the culprit of each of these losses is known."""
        return all(self._explained.get(loss) is not None for loss in losses)

    def _lift(self, losses: frozenset[str]) -> None:
        """Free whoever was held responsible for losses that are explained now."""
        for print_, strikes in self._strikes.items():
            self._strikes.drop(print_)
            if strikes - losses:
                self._strikes.put(print_, strikes - losses, REMEMBERED_S)
        for print_, conviction in self._convicts.items():
            if not conviction.proven and self._explains(conviction.losses):
                self._convicts.drop(print_)


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
