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
EXPECTED_S = 5.0  # how long a package that was sent for counts as held before the replica has said so


class Affinity:
    """Knows the live replicas and what each holds; `choose` is its one verb, the rest feeds it."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock  # seconds, monotonic
        self._held: dict[str, Holding] = {}
        self._expected: dict[str, dict[Key, float]] = {}

    @property
    def replicas(self) -> tuple[str, ...]:
        """The live replicas, sorted."""
        return tuple(sorted(self._held))

    def observe(self, holdings: Mapping[str, Holding]) -> None:
        """Take over what the replicas say: who is alive, whether it is warm, and what it holds on device or in memory."""
        now = self._clock()
        self._held = dict(holdings)
        self._expected = {
            replica: {key: until for key, until in self._expected.get(replica, {}).items() if until > now}
            for replica in holdings
        }

    def lose(self, replica: str) -> None:
        """Forget a replica until it is observed again."""
        self._held.pop(replica, None)
        self._expected.pop(replica, None)

    def expect(self, replica: str, ticket: Ticket) -> None:
        """Count the ticket's packages as held by `replica` for a while: they are being loaded for it."""
        until = self._clock() + EXPECTED_S
        self._expected[replica].update((ref.key, until) for ref in ticket.refs)

    def choose(
        self, ticket: Ticket, waiting: Mapping[str, int], avoid: Iterable[str] = (), among: Collection[str] = ()
    ) -> str | None:
        """The replica with the least cost in rows, or None when none is alive.

        `waiting`: rows sent and not answered, by replica; `avoid`: replicas that lost this ticket before, taken only
        when there is no other; `among`: no others than these where one of them is left.
        """
        alive = set(self._held)
        willing = alive.difference(avoid) or alive
        willing = willing.intersection(among) or willing
        candidates = {replica for replica in willing if self._held[replica].warm} or willing
        if not candidates:
            return None
        keys = tuple(ref.key for ref in ticket.refs)
        missing = {replica: self._missing(replica, keys) for replica in candidates}
        cold = bool(keys) and all(count == len(keys) for count in missing.values())
        seed = repr(keys) if keys else ticket.id  # the bare backbone is everywhere: spread it
        ranked = sorted(candidates, key=lambda replica: blake2b(f"{replica} {seed}".encode(), digest_size=8).digest())

        def cost(replica: str) -> float:
            away = AWAY_ROWS if cold and replica != ranked[0] else 0.0
            return waiting.get(replica, 0) + MISSING_ROWS * missing[replica] + away

        return min(ranked, key=cost)  # of equals the first, which is home

    def _missing(self, replica: str, keys: tuple[Key, ...]) -> int:
        held, expected, now = self._held[replica].keys, self._expected[replica], self._clock()
        return sum(key not in held and expected.get(key, 0.0) <= now for key in keys)
