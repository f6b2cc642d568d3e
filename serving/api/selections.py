"""Selections that were made before: most requests name what another one has named, and the registry is the same still."""

from adapters.architectures.geometry import Geometry
from serving.api.schemas import PredictRequest
from serving.api.selection import Selection, select
from serving.api.services import Directory

KNOWN = 10_000  # selections that are remembered

_Key = tuple[str, str | tuple[str, ...] | None, str | None, str | None, str | None]


class Selections:
    """What requests name, pinned as `select` does it; remembered for as long as nothing changes in the directory."""

    def __init__(self, directory: Directory, geometry: Geometry) -> None:
        self._directory = directory
        self._geometry = geometry
        self._changes = -1
        self._known: dict[_Key, Selection] = {}

    async def of(self, request: PredictRequest, tenant: str) -> Selection:
        """The selection of a request; raises as `select` does."""
        key, changes = _key(request, tenant), self._directory.changes
        if changes != self._changes:
            self._known, self._changes = {}, changes
        known = None if key is None else self._known.get(key)
        if known is not None:
            return known
        found = await select(request, tenant, self._directory, self._geometry)
        # A task for each input depends on the inputs; and what was looked up may be newer.
        if key is not None and found.task_ids is None and self._directory.changes == changes == self._changes:
            if len(self._known) >= KNOWN:
                self._known.clear()
            self._known[key] = found
        return found

    def check(self) -> None:
        """Assert that the memory is bounded."""
        assert len(self._known) <= KNOWN, f"{len(self._known)} selections are remembered"


def _key(request: PredictRequest, tenant: str) -> _Key | None:
    """All that `select` reads of a request; None where it is more than names."""
    named = request.adapters
    if isinstance(named, list):
        if not all(isinstance(name, str) for name in named):
            return None
        named = tuple(named)
    elif named is not None and not isinstance(named, str):
        return None
    if request.parameters.task_ids is not None:
        return None
    return tenant, named, request.head, request.embedding, request.task
