"""What `GET /v1/watch` answers."""

from typing_extensions import TypedDict

from serving.api.answers import timestamp
from serving.registry.journal import Outcome


class WatchedAnswer(TypedDict):
    """One place below the watched folder: `published`, `refused` or `waiting`, and why."""

    place: str
    tenant: str
    name: str
    state: str
    at: str
    version: int | None
    digest: str | None
    reasons: list[str]


class WatchAnswer(TypedDict):
    """Every place of the caller's tenant; with the scope `admin` those of all, and those that are nobody's."""

    watching: bool
    items: list[WatchedAnswer]


def watched_answer(item: Outcome) -> WatchedAnswer:
    """One place as JSON."""
    return {
        "place": item.place,
        "tenant": item.tenant,
        "name": item.name,
        "state": item.state,
        "at": timestamp(item.at),
        "version": item.version,
        "digest": item.digest,
        "reasons": list(item.reasons),
    }
