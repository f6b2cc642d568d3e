"""Label values that a metric may have: a bounded number of them, and one name for all others.

A series is kept for every label value that was ever seen, in every process and in Prometheus. Tenants are many and
come and go, so only so many of them are told apart.
"""

import threading
from collections.abc import Callable

OTHER = "other"


class Bounded:
    """At most `limit` values are told apart; the rest count as `other`. Any thread may call any method.

    Values that were preferred (tenants with a quota) come first: the others may take half of the room, so that a value
    that is preferred later still finds some. A value that was admitted stays, or its counter would jump.
    """

    def __init__(self, limit: int) -> None:
        if limit < 2:
            raise ValueError(f"a bound of {limit} leaves no room to tell values apart")
        self._limit = limit
        self._preferred: Callable[[str], bool] = _nobody
        self._admitted: set[str] = set()
        self._strangers = 0  # admitted while they were not preferred
        self._guard = threading.Lock()

    def prefer(self, rule: Callable[[str], bool]) -> None:
        """From now on the values that the rule holds for come first; it is asked of each value that is new."""
        with self._guard:
            self._preferred = rule

    def label(self, value: str) -> str:
        """The value itself where it is told apart, else `other`."""
        if value in self._admitted:  # without the lock: nothing is ever taken out
            return value
        with self._guard:
            return value if value in self._admitted or self._admit(value) else OTHER

    def check(self) -> None:
        """Assert that no more values are told apart than may be."""
        assert len(self._admitted) <= self._limit, f"{len(self._admitted)} values where {self._limit} may be"
        assert self._strangers <= min(len(self._admitted), self._limit // 2), f"{self._strangers} strangers"

    def _admit(self, value: str) -> bool:
        preferred = self._preferred(value)
        room = self._limit if preferred else self._limit // 2
        taken = len(self._admitted) if preferred else self._strangers
        if value == OTHER or taken >= room or len(self._admitted) >= self._limit:
            return False
        self._admitted.add(value)
        self._strangers += not preferred
        return True


def _nobody(value: str) -> bool:
    return False
