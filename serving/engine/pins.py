"""What has to be pinned in this engine, and what became of it: brought about in the background, told at any time."""

import threading
from collections.abc import Callable, Iterable

from adapters.refs import AdapterRef
from serving.errors import ServiceError
from serving.logs import log

Key = tuple[str, str]  # (tenant, digest)


class Pins:
    """Desired pins against real ones. `reconcile` waits for loads and belongs on a thread of its own; the rest does not.

    `pin` and `unpin` are the engine's. What could not be pinned is tried again at the next `reconcile`: room comes and
    goes, and a store that was away returns.
    """

    def __init__(self, pin: Callable[[AdapterRef], str], unpin: Callable[[AdapterRef], None]) -> None:
        self._pin = pin
        self._unpin = unpin
        self._wanted: dict[Key, AdapterRef] | None = None  # None until somebody said
        self._held: dict[Key, AdapterRef] = {}
        self._refused: dict[Key, str] = {}
        self._guard = threading.Lock()  # the three above
        self._working = threading.Lock()  # one `reconcile` at a time

    @property
    def warm(self) -> bool:
        """Whether it was said what to pin, and all of that is pinned or was refused."""
        with self._guard:
            return self._wanted is not None and self._wanted.keys() <= self._held.keys() | self._refused.keys()

    @property
    def refused(self) -> dict[str, str]:
        """Version -> why it could not be pinned."""
        with self._guard:
            return {str((self._wanted or {})[key]): why for key, why in self._refused.items()}

    def desire(self, refs: Iterable[AdapterRef]) -> None:
        """These are to be pinned, and nothing else."""
        with self._guard:
            self._wanted = {ref.key: ref for ref in refs}
            self._refused = {key: why for key, why in self._refused.items() if key in self._wanted}

    def noted(self, ref: AdapterRef, *, pinned: bool) -> None:
        """An operator pinned a version by hand, or let it go; it stays so until `desire` says otherwise."""
        with self._guard:
            self._refused.pop(ref.key, None)
            for known in (self._held, self._wanted):
                if known is not None and pinned:
                    known[ref.key] = ref
                elif known is not None:
                    known.pop(ref.key, None)

    def reconcile(self) -> None:
        """Let go of what is not wanted any more, and pin what is wanted and not here; returns at once if that runs."""
        if not self._working.acquire(blocking=False):
            return
        try:
            for ref in self._superfluous():
                self._unpin(ref)
            for ref in self._missing():
                self._try(ref)
        finally:
            self._working.release()

    def _try(self, ref: AdapterRef) -> None:
        try:
            self._pin(ref)
        except ServiceError as error:
            with self._guard:
                wanted = self._wanted is not None and ref.key in self._wanted
                if wanted and self._refused.get(ref.key) != error.detail:
                    log("engine", "could not pin", version=str(ref), outcome=error.detail)
                    self._refused[ref.key] = error.detail
            return
        with self._guard:  # also where it is not wanted any more: the next round lets it go
            self._refused.pop(ref.key, None)
            self._held[ref.key] = ref

    def _superfluous(self) -> list[AdapterRef]:
        """What is held and not wanted; it counts as gone from here on."""
        with self._guard:
            gone = [] if self._wanted is None else [key for key in self._held if key not in self._wanted]
            return [self._held.pop(key) for key in gone]

    def _missing(self) -> list[AdapterRef]:
        with self._guard:
            return [ref for key, ref in (self._wanted or {}).items() if key not in self._held]
