"""What each tenant may keep and take of a tier: a floor that the others leave alone, a ceiling for its own loads.

Some of a tier stays `loose`: neither floors nor pins may take it, so that a batch of anybody can always be brought in.
Floors that ask for more than there is beside the loose part and the pins are all cut in the same proportion.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from adapters.cache.lru import Lru
from adapters.errors import OutOfRoom

Key = tuple[str, str]  # (tenant, digest): `AdapterRef.key`


def tenant_of(key: Key) -> str:
    """Whose bytes an entry's are."""
    return key[0]


@dataclass(frozen=True, slots=True)
class Room:
    """A tenant's room in a tier, in bytes."""

    floor: int = 0
    ceiling: int | None = None  # None: all there is

    def scaled(self, factor: float) -> "Room":
        """The floor in the proportion of another tier, and no ceiling."""
        return Room(int(self.floor * factor))


@dataclass(slots=True)
class Rooms:
    """The rooms of one tier, over its books. Not locked: its owner is `TieredCache`, which is."""

    lru: Lru[Key]
    loose: int = 0  # bytes
    _rooms: Mapping[str, Room] = field(default_factory=dict)
    _floors: dict[str, int] = field(default_factory=dict)  # as far as there is room for them
    _excess: dict[str, int] = field(default_factory=dict)  # held when the ceiling was lowered below it
    kept: float = 1.0  # the part of what was promised beside pins that there is room for

    def share(self, rooms: Mapping[str, Room]) -> None:
        """These are the rooms from now on; a tenant that is not named has `Room()`."""
        self._rooms = dict(rooms)
        self._excess = {t: held for t in rooms if (held := self.lru.held(t)) > self._limit(t)}
        self.settle()

    def settle(self) -> None:
        """Cut the floors to what there is; to be called again when pins change."""
        pinned = {tenant: self.lru.pinned_of(tenant) for tenant in self.lru.owners}
        beyond = {t: max(room.floor - pinned.get(t, 0), 0) for t, room in self._rooms.items()}
        free = max(self.lru.budget - self.loose - sum(pinned.values()), 0)
        asked = sum(beyond.values())
        self.kept = min(1.0, free / asked) if asked else 1.0
        self._floors = {t: pinned.get(t, 0) + int(more * self.kept) for t, more in beyond.items() if more}

    def unpin(self, key: Key) -> None:
        """Let an entry be evicted again."""
        if key in self.lru.pinned:
            self.lru.unpin(key)
            self.settle()

    def floor(self, tenant: str) -> int:
        """Bytes that the loads of others leave to a tenant."""
        return self._floors.get(tenant, 0)

    def ceiling(self, tenant: str) -> int | None:
        """Bytes that a tenant's own loads may take; None is all there is."""
        room = self._rooms.get(tenant)
        return None if room is None else room.ceiling

    def over(self, sizes: Mapping[Key, int]) -> OutOfRoom | None:
        """Why these can never be together: one tenant's, with what it has pinned, are more than its ceiling."""
        needs: dict[str, int] = {}
        for key, nbytes in sizes.items():
            needs[key[0]] = needs.get(key[0], 0) + nbytes
        if sum(needs.values()) > self.loose:  # less than that always fits beside floors and pins
            kept = self._kept(needs)
            if kept and sum(needs.values()) + kept > self.lru.budget:
                return OutOfRoom(
                    f"{sum(needs.values())} bytes are needed at once, and {kept} are kept for other tenants"
                )
        for tenant, needed in needs.items():
            ceiling = self.ceiling(tenant)
            if ceiling is None:
                continue
            there = (key for key in sizes if key[0] == tenant and key in self.lru.pinned)
            pinned = self.lru.pinned_of(tenant) - sum(map(self.lru.nbytes, there))
            if needed + pinned > ceiling:
                return OutOfRoom(
                    f"{needed} bytes are needed at once and {pinned} more are pinned: the tenant may take {ceiling}"
                )
        return None

    @property
    def free_for_pins(self) -> int:
        """Bytes that may still be pinned."""
        return max(self.lru.budget - self.loose - self.lru.pinned_bytes, 0)

    def check(self) -> tuple[str, ...]:
        """Every tenant that holds more than its ceiling, or more than it held when that was lowered; empty when sound."""
        return tuple(
            f"{tenant} holds {self.lru.held(tenant)} bytes over a ceiling of {self._limit(tenant)}"
            for tenant in self._rooms
            if self.lru.held(tenant) > max(self._limit(tenant), self._excess.get(tenant, 0))
        )

    def _kept(self, beside: Collection[str]) -> int:
        """What of the entries of all but these tenants stays: their pins, and as many as reach their floors."""
        left = {tenant: self.lru.held(tenant) for tenant in self._floors if tenant not in beside}
        for key in self.lru if left else ():
            tenant, nbytes = key[0], self.lru.nbytes(key)
            if tenant in left and key not in self.lru.pinned and left[tenant] - nbytes >= self.floor(tenant):
                left[tenant] -= nbytes
        others = self.lru.pinned_bytes - sum(map(self.lru.pinned_of, (*left, *beside)))
        return sum(left.values()) + others

    def _limit(self, tenant: str) -> int:
        ceiling = self.ceiling(tenant)
        return self.lru.budget if ceiling is None else ceiling
