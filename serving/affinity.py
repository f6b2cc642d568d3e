"""Which engine replica a ticket goes to: the one most likely to hold its adapters, unless its line is much longer.

Three sources, weighed in rows of waiting: what each replica said it holds, what was sent there a moment ago (a replica
tells once a second), and a home by rendezvous hashing, so that gateways which never talk agree on where a cold adapter
goes first. A replica that is still bringing its pins in gets nothing while another lives that has done so.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from hashlib import blake2b

from serving.request import Holding, Ticket

Key = tuple[str, str]  # (tenant, digest), the identity in every cache

MISSING_ROWS = 8.0  # loading one package is worth a line this much longer
AWAY_ROWS = 4.0  # so is leaving home with adapters that no replica holds
RANKINGS = 10_000  # that are remembered
EXPECTED_S = 5.0  # how long a package that was sent for counts as held before the replica has said so


class Affinity:
    """Knows the live replicas and what each holds; `choose` is its one verb, the rest feeds it."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock  # seconds, monotonic
        self._held: dict[str, Holding] = {}
        self._expected: dict[str, dict[Key, float]] = {}
        self._rankings: dict[tuple[Key, ...], tuple[str, ...]] = {}  # of all that live, by what is needed
        self._last: tuple[Ticket | None, tuple[Key, ...]] = None, ()  # asked for, and what it needs

    @property
    def replicas(self) -> tuple[str, ...]:
        """The live replicas, sorted."""
        return tuple(sorted(self._held))

    def observe(self, holdings: Mapping[str, Holding]) -> None:
        """Take over what the replicas say: who is alive, whether it is warm, and what it holds on device or in memory."""
        now = self._clock()
        if self._held.keys() != holdings.keys():
            self._rankings.clear()
        self._held = dict(holdings)
        self._expected = {
            replica: {key: until for key, until in self._expected.get(replica, {}).items() if until > now}
            for replica in holdings
        }

    def lose(self, replica: str) -> None:
        """Forget a replica until it is observed again."""
        self._rankings.clear()
        self._held.pop(replica, None)
        self._expected.pop(replica, None)

    def expect(self, replica: str, ticket: Ticket) -> None:
        """Count the ticket's packages as held by `replica` for a while: they are being loaded for it."""
        self._expected[replica].update(dict.fromkeys(self._keys(ticket), self._clock() + EXPECTED_S))

    def choose(
        self, ticket: Ticket, waiting: Mapping[str, int], avoid: Iterable[str] = (), among: Collection[str] = ()
    ) -> str | None:
        """The replica with the least cost in rows, or None when none is alive.

        `waiting`: rows sent and not answered, by replica; `avoid`: replicas that lost this ticket before, taken only
        when there is no other; `among`: no others than these where one of them is left.
        """
        if len(self._held) < 2:
            return next(iter(self._held), None)
        alive = set(self._held)
        willing = alive.difference(avoid) or alive
        willing = willing.intersection(among) or willing
        candidates = {replica for replica in willing if self._held[replica].warm} or willing
        keys = self._keys(ticket)
        missing = {replica: self._missing(replica, keys) for replica in candidates}
        cold = bool(keys) and all(count == len(keys) for count in missing.values())
        # The bare backbone is everywhere: spread it.
        ranking = self._ranking(keys) if keys else ranked(self._held, ticket.id)
        homes = [replica for replica in ranking if replica in candidates]

        def cost(replica: str) -> float:
            away = AWAY_ROWS if cold and replica != homes[0] else 0.0
            return waiting.get(replica, 0) + MISSING_ROWS * missing[replica] + away

        return min(homes, key=cost)  # of equals the first, which is home

    def _keys(self, ticket: Ticket) -> tuple[Key, ...]:
        """What the ticket needs; rows of one request come one after the other, and need the same."""
        known, keys = self._last
        if (
            known is None
            or known.composition is not ticket.composition
            or known.head is not ticket.head
            or known.embedding is not ticket.embedding
        ):
            keys = tuple(ref.key for ref in ticket.refs)
            self._last = ticket, keys
        return keys

    def _ranking(self, keys: tuple[Key, ...]) -> tuple[str, ...]:
        ranking = self._rankings.get(keys)
        if ranking is None:
            if len(self._rankings) >= RANKINGS:
                self._rankings.clear()
            ranking = self._rankings[keys] = ranked(self._held, repr(keys))
        return ranking

    def _missing(self, replica: str, keys: tuple[Key, ...]) -> int:
        held, expected, now = self._held[replica].keys, self._expected[replica], self._clock()
        return sum(key not in held and expected.get(key, 0.0) <= now for key in keys)


def ranked(replicas: Iterable[str], seed: str) -> tuple[str, ...]:
    """Replicas in the order of rendezvous hashing: the first is home to what the seed stands for."""
    return tuple(sorted(replicas, key=lambda replica: blake2b(f"{replica} {seed}".encode(), digest_size=8).digest()))
