"""`GET /v1/watch`: what became of the caller's folders below the one that is watched (`chorus serve --watch`)."""

from pathlib import Path

from fastapi import APIRouter

from serving.api.packages import Operator, package_router
from serving.api.services import Services
from serving.api.watch_answers import WatchAnswer, watched_answer
from serving.registry.journal import told_in

COUNTED = ("published", "unchanged", "refused")  # what waits is counted when it is one of these


class Tally:
    """What the watching process counted since this gateway began; each begins at 0, so that alerts see the first."""

    def __init__(self, data: Path) -> None:
        self._data = data
        self._first = self._now()

    def __call__(self) -> dict[str, int]:
        """How many packages there were by outcome; where the process counts anew, for another folder, all of its own."""
        return {
            word: count - self._first[word] if count >= self._first[word] else count
            for word, count in self._now().items()
        }

    def _now(self) -> dict[str, int]:
        told = told_in(self._data)
        return dict.fromkeys(COUNTED, 0) if told is None else {word: told.counts.get(word, 0) for word in COUNTED}


def routes(services: Services) -> APIRouter:
    """The routes of the watched folder."""
    router = package_router("watch")
    data = services.watched
    if data is not None:
        services.metrics.watch(Tally(data))

    @router.get("/v1/watch", operation_id="watch", summary="What became of the folders that are watched")
    async def watch(caller: Operator) -> WatchAnswer:
        """What was published from the watched folder, what was refused and why, and what waits."""
        told = None if data is None else told_in(data)
        every = "admin" in caller.scopes
        shown = [item for item in (told.outcomes if told else ()) if every or item.tenant == caller.tenant]
        return {"watching": data is not None, "items": [watched_answer(item) for item in shown]}

    return router
