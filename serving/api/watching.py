"""`GET /v1/watch`: what became of the caller's folders below the one that is watched (`chorus serve --watch`)."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from fastapi import APIRouter
from prometheus_client import Counter
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from serving.api.packages import Operator, package_router
from serving.api.services import Services
from serving.api.watch_answers import WatchAnswer, watched_answer
from serving.registry.journal import told_in

COUNTED = ("published", "unchanged", "refused")  # what waits is counted when it is one of these


class Tally(Collector):
    """Has a counter follow what the watching process counted since this gateway began; a scrape behind."""

    def __init__(self, data: Path, counter: Counter) -> None:
        self._data = data
        self._counter = counter
        self._seen = self._counts()

    def describe(self) -> Iterable[Metric]:
        """None of its own."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """None of its own: the counter is among the others."""
        counts = self._counts()
        for word, count in counts.items():
            grown = count - self._seen.get(word, 0)
            self._counter.labels(word).inc(grown if grown >= 0 else count)  # it counts anew for another folder
        self._seen = counts
        return iter(())

    def _counts(self) -> dict[str, int]:
        told = told_in(self._data)
        return {} if told is None else {word: told.counts.get(word, 0) for word in COUNTED}


def routes(services: Services) -> APIRouter:
    """The routes of the watched folder."""
    router = package_router("watch")
    data = services.watched
    if data is not None:
        services.metrics.registry.register(Tally(data, services.metrics.watched))

    @router.get("/v1/watch", operation_id="watch", summary="What became of the folders that are watched")
    async def watch(caller: Operator) -> WatchAnswer:
        """What was published from the watched folder, what was refused and why, and what waits."""
        told = None if data is None else told_in(data)
        every = "admin" in caller.scopes
        shown = [item for item in (told.outcomes if told else ()) if every or item.tenant == caller.tenant]
        return {"watching": data is not None, "items": [watched_answer(item) for item in shown]}

    return router
