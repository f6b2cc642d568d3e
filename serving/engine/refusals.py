"""Errors of the cache as refusals of the service, where somebody waits for a load; and whose bytes were bad."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from adapters.errors import AdapterError, PackageLost, PackageRotten
from adapters.refs import AdapterRef
from serving.errors import NotReady, from_library

TOLD_S = 5.0  # a pin that fails is tried again sooner: what is bad stays told


class Refusals:
    """What one engine refused to those who wait: operators, and pins. Any thread may call any method."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._bad: dict[str, float] = {}  # digest -> when its bytes were last found to be lost or wrong
        self._guard = threading.Lock()

    @contextmanager
    def of(self, *refs: AdapterRef) -> Iterator[None]:
        """Errors of the cache as refusals; what the store lost or damaged is remembered for a while."""
        try:
            yield
        except AdapterError as error:
            if isinstance(error, PackageLost | PackageRotten):
                with self._guard:
                    self._bad[error.digest] = self._clock()
            raise from_library(error) from error
        except TimeoutError as error:
            named = " + ".join(map(str, refs))
            raise NotReady(f"{named} was not loaded in time: everything that could make room is in use") from error

    @property
    def bad(self) -> frozenset[str]:
        """Digests whose bytes were lost or wrong in the last seconds, however often they were fetched."""
        with self._guard:
            since = self._clock() - TOLD_S
            self._bad = {digest: at for digest, at in self._bad.items() if at > since}
            return frozenset(self._bad)
