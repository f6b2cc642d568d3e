"""The one thread on which bytes move up: fetch to disk, read and fold into host memory, copy into a slot.

A turn is one pass of admission and one job. Jobs are found in the line, tenants by turns and the oldest want of each
first, so that a key is loaded once however many wait for it, and nothing is queued twice. All slow work is done without the lock.
"""

import threading
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from adapters.cache.admission import Size
from adapters.cache.books import Books
from adapters.cache.disk import Source
from adapters.cache.host import Entry
from adapters.errors import LoadFailed
from adapters.refs import AdapterRef
from adapters.weights import Adapter

Load = Callable[[AdapterRef, Path], Entry]


class Loader:
    """Runs until the books are closed. `load` may raise whatever it likes: the wants of that entry fail, no others."""

    def __init__(
        self, books: Books, load: Load, source: Source, on_change: Callable[[], None], *, threaded: bool = True
    ) -> None:
        self._books = books
        self._load = load
        self._source = source
        self._on_change = on_change
        self._wipe_after = 0.0
        self._thread = threading.Thread(target=self._run, name="chorus-loader", daemon=True) if threaded else None
        if self._thread is not None:
            self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether the thread runs, if there is to be one."""
        return self._thread is None or self._thread.is_alive()

    def join(self) -> None:
        """Wait for the end, after `Books.closed` was set."""
        if self._thread is not None:
            self._thread.join()

    def turn(self) -> bool:
        """One pass of admission and one job, on the caller's thread; False where there was nothing to do."""
        books = self._books
        with books.changed:
            job = bool if books.admission.admit() else self._find()
        if job is not None:
            self._do(job)
        return job is not None

    def _run(self) -> None:
        while (job := self._next()) is not None:
            self._do(job)

    def _do(self, job: Callable[[], object]) -> None:
        job()
        with self._books.changed:
            self._books.admission.admit()
            self._books.sweep()
            self._books.changed.notify_all()
        self._on_change()

    def _next(self) -> Callable[[], object] | None:
        """Wait for something to do; None when the cache is closed."""
        books = self._books
        with books.changed:
            while not books.closed:
                if books.admission.admit():
                    return bool  # a want was refused, or an entry set free: nothing to do but to tell
                job = self._find()
                if job is not None:
                    return job
                expiry = books.admission.next_expiry()
                books.changed.wait(None if expiry is None else max(expiry - books.clock(), 0.001))
            return None

    def _find(self) -> Callable[[], object] | None:
        books = self._books
        if books.dropped:
            return partial(books.disk.drop, books.dropped.popleft())
        for key, moved in books.moving.items():  # before all loads: what is pinned is missed by somebody
            return partial(self._copy, books.ledger.facts[key].ref, moved, ())
        for want in books.admission.line():
            for ref in want.refs:
                size = books.ledger.size(ref.key)
                if size is None:
                    return partial(self._bring, ref, want.tenants)
                if want.admitted and not books.there(ref.key):
                    entry = books.host.get(ref.key)
                    if isinstance(entry, Adapter):
                        return partial(self._copy, ref, entry, want.tenants)
                    return partial(self._bring, ref, want.tenants)
        return self._wipe if books.device.dirty and books.clock() >= self._wipe_after else None

    def _wipe(self) -> None:
        try:
            self._books.device.wipe()
        except Exception:  # the device's own errors: nothing is read from there, and `write` wipes first
            self._wipe_after = self._books.clock() + self._books.ledger.patience

    def _bring(self, ref: AdapterRef, tenants: Sequence[str]) -> None:
        """Fetch, read and fold; then straight on into the slot, if one is reserved."""
        books = self._books
        started = books.clock()
        try:
            path = books.disk.fetch(ref.digest, self._source)
            fetched = books.clock()
            entry = self._load(ref, path)
        except Exception as error:  # `load` reads what tenants sent: whatever it raises concerns this entry only
            self._fail(ref, error)
            return
        loaded = books.clock()
        with books.changed:
            fact = books.ledger.fact(ref)
            fact.size = self._size(entry)
            fact.loads += 1
            books.ledger.loads += 1
            books.ledger.seconds["disk"] += fetched - started
            books.ledger.seconds["host"] += loaded - fetched
            books.admission.turns.moved(tenants, entry.nbytes, books.admission.waiting)
            books.prune()
            books.admission.admit()
            home = books.home(ref.key)
            reserved = ref.key in home.lru and home.get(ref.key) is None
            if reserved and home is books.host:
                books.host.put(ref.key, entry)
            else:
                books.host.offer(ref.key, entry, books.admission.protected)
        if reserved and isinstance(entry, Adapter):
            self._copy(ref, entry, tenants)

    def _copy(self, ref: AdapterRef, adapter: Adapter, tenants: Sequence[str]) -> None:
        books = self._books
        started = books.clock()
        try:
            resident = books.device.write(ref.key, adapter)
        except Exception as error:  # the device's own errors: this entry fails, the reservation is given back
            self._fail(ref, error)
            return
        with books.changed:
            books.device.publish(ref.key, resident)
            books.moving.pop(ref.key, None)
            books.ledger.copies += 1
            if tenants:  # a pin that was moved out of the way is nobody's turn
                books.admission.turns.moved(tenants, books.device.lru.nbytes(ref.key), books.admission.waiting)
            books.ledger.seconds["device"] += books.clock() - started

    def _fail(self, ref: AdapterRef, error: Exception) -> None:
        said = f"{ref} could not be loaded: {_told(error)}"
        if isinstance(error, LoadFailed):  # lost, rotten or unavailable: what can be done about it differs
            failure, error.args = error, (said,)
        else:
            failure = LoadFailed(said)
            failure.__cause__ = error
        with self._books.changed:
            self._books.ledger.failed(ref, failure)
            self._books.moving.pop(ref.key, None)
            self._books.admission.drop(ref.key)

    def _size(self, entry: Entry) -> Size:
        if isinstance(entry, Adapter):
            return Size("device", self._books.device.nbytes(entry))
        return Size("host", entry.nbytes)


def _told(error: Exception) -> str:
    """Why, as a tenant may read it: an error of the system would name places of this machine."""
    said = error.strerror if isinstance(error, OSError) else str(error)
    return said or type(error).__name__
