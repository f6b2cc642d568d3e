"""`chorus ps preload unload pin unpin`: where published versions lie, and where they shall lie."""

from collections.abc import Callable, Iterator

import typer

from serving.api.residency_answers import EntryAnswer, ReplicaAnswer, ReplicasAnswer, ResidencyAnswer
from serving.commands import tables, top, watched
from serving.commands.options import InEmbeddings, Json, Reference, connect, space_of
from serving.errors import DependencyFailed
from serving.namespaces import Action

app = typer.Typer()
for group in (top.app, watched.app):
    app.add_typer(group)
_ACTIONS: dict[Action, str] = {
    "preload": "Load a version on every engine.",
    "unload": "Evict a version from every engine, wherever no row uses it.",
    "pin": "Keep a version resident on every engine.",
    "unpin": "Keep a version resident no longer: it may be evicted and retired again.",
}
_HEAD = ("REPLICA", "NAME", "VERSION", "TIER", "SIZE", "IN-USE", "HITS", "LOADS", "PINNED")


@app.command()
def ps(ctx: typer.Context, as_json: Json = False) -> None:
    """Show what lies in which tier of which engine."""
    with connect(ctx) as client:
        found = client.residency()
    if as_json:
        tables.print_json(found)
        return
    tables.table(_HEAD, list(rows(found)), right=frozenset({"SIZE", "IN-USE", "HITS", "LOADS"}))
    for replica in found["replicas"]:
        tables.note(state(replica))
        for reference, why in replica["pins_refused"].items():
            tables.note(f"{replica['replica']}: {reference} is not pinned: {why}")


def rows(found: ResidencyAnswer) -> Iterator[tuple[str, ...]]:
    """A line for every name of every package on every replica; bytes that no name leads to show their digest."""
    for replica in found["replicas"]:
        for entry in replica["entries"]:
            for reference in entry["references"] or [entry["digest"]]:
                name, _, version = reference.partition("@")
                yield (replica["replica"], name, version, *_cells(entry))


def state(replica: ReplicaAnswer) -> str:
    """One replica in a line: whether it is ready, how full its tiers are, what waits."""
    tiers = "  ".join(
        f"{tier} {tables.size(replica['used'].get(tier, 0))} of {tables.size(budget)}"
        for tier, budget in replica["budgets"].items()
    )
    ready = "ready" if replica["ready"] and replica["warm"] else "loading its pins" if replica["ready"] else "not ready"
    return f"{replica['replica']}: {ready}  {tiers}  queued {replica['queued']}  running {replica['running']}"


def _cells(entry: EntryAnswer) -> tuple[str, ...]:
    pinned = "yes" if entry["pinned"] else ""
    counts = (str(entry[column]) for column in ("leases", "hits", "loads"))
    return (entry["tier"], tables.size(entry["bytes"]), *counts, pinned)


def _print_outcomes(found: ReplicasAnswer) -> None:
    tables.done(f"{found['action']} {found['name']}@{found['version']}")
    tables.table(("REPLICA", "OUTCOME"), sorted(found["replicas"].items()))


def _command(action: Action) -> Callable[..., None]:
    def run(ctx: typer.Context, reference: Reference, embedding: InEmbeddings = False, as_json: Json = False) -> None:
        with connect(ctx) as client:
            found = space_of(client, embedding=embedding).act(reference, action)
        if as_json:
            tables.print_json(found)
        else:
            _print_outcomes(found)
        failed = sorted(replica for replica, outcome in found["replicas"].items() if outcome.startswith("error"))
        if failed:
            raise DependencyFailed(f"{action} failed on {', '.join(failed)}")

    return run


for _action, _help in _ACTIONS.items():
    app.command(name=_action, help=_help)(_command(_action))
