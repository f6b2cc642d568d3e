"""`chorus ps preload unload pin unpin`: where published versions lie, and where they shall lie."""

from collections.abc import Callable

import typer

from serving.commands import tables
from serving.commands.options import InEmbeddings, Json, Reference, connect, space_of
from serving.errors import DependencyFailed
from serving.namespaces import Action

app = typer.Typer()
_ACTIONS: dict[Action, str] = {
    "preload": "Load a version on every engine.",
    "unload": "Evict a version from every engine, wherever no row uses it.",
    "pin": "Keep a version resident on every engine.",
    "unpin": "Let a version go, and be retired again.",
}


@app.command()
def ps(ctx: typer.Context, as_json: Json = False) -> None:
    """Show what lies in which tier of which engine."""
    with connect(ctx) as client:
        found = client.residency()
    if as_json:
        tables.print_json(found)
    else:
        tables.print_residency(found)


def _command(action: Action) -> Callable[..., None]:
    def run(ctx: typer.Context, reference: Reference, embedding: InEmbeddings = False, as_json: Json = False) -> None:
        with connect(ctx) as client:
            found = space_of(client, embedding=embedding).act(reference, action)
        if as_json:
            tables.print_json(found)
        else:
            tables.print_replicas(found)
        failed = sorted(replica for replica, outcome in found["replicas"].items() if outcome.startswith("error"))
        if failed:
            raise DependencyFailed(f"{action} failed on {', '.join(failed)}")

    return run


for _action, _help in _ACTIONS.items():
    app.command(name=_action, help=_help)(_command(_action))
