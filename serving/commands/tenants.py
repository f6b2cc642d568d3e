"""`chorus tenant put ls show rm`: who there is, and what each may use."""

from dataclasses import replace
from typing import Annotated, Any

import typer

from serving.api.administration_answers import TenantAnswer
from serving.commands import tables
from serving.commands.options import Json, connect
from serving.config import parse_size
from serving.errors import BadRequest, NotFound
from serving.registry.records import Quota

app = typer.Typer(no_args_is_help=True, help="Name tenants and say what each may use (scope admin).")
TenantName = Annotated[str, typer.Argument(metavar="TENANT")]
Size = Annotated[str | None, typer.Option(metavar="SIZE")]
NONE = "none"


@app.command()
def put(
    ctx: typer.Context,
    name: TenantName,
    *,
    weight: Annotated[float | None, typer.Option(help="Share of a busy engine, against the others' weights.")] = None,
    requests_per_s: Annotated[
        str | None, typer.Option(metavar="RATE", help="Predictions that may be asked for.")
    ] = None,
    cost_per_s: Annotated[str | None, typer.Option(metavar="RATE", help="Tokens x layers.")] = None,
    concurrency: Annotated[str | None, typer.Option(metavar="COUNT", help="Requests at once.")] = None,
    adapters: Annotated[str | None, typer.Option(metavar="COUNT", help="Names of packages and targets.")] = None,
    nbytes: Annotated[str | None, typer.Option("--bytes", metavar="SIZE", help="Published packages in all.")] = None,
    device_floor: Annotated[
        str | None, typer.Option(metavar="SIZE", help="On every engine, not to be taken by the others.")
    ] = None,
    device_ceiling: Annotated[str | None, typer.Option(metavar="SIZE", help="On every engine, at most.")] = None,
    as_json: Json = False,
) -> None:
    """Name a tenant, or change what is given of its quota; `none` takes a limit away."""
    given: dict[str, Any] = {
        "weight": weight,
        "requests_per_s": _number(requests_per_s, "--requests-per-s", float),
        "cost_per_s": _number(cost_per_s, "--cost-per-s", float),
        "concurrency": _number(concurrency, "--concurrency", int),
        "adapters": _number(adapters, "--adapters", int),
        "nbytes": _size(nbytes, "--bytes"),
        "device_floor": 0 if device_floor == NONE else _size(device_floor, "--device-floor"),
        "device_ceiling": _size(device_ceiling, "--device-ceiling"),
    }
    options = ctx.params
    changed = {field: value for field, value in given.items() if options[field] is not None}
    with connect(ctx) as client:
        try:
            held = Quota(**client.tenants.show(name)["quota"])
        except NotFound:
            held = Quota()
        answer = client.tenants.put(name, replace(held, **changed))
    _print([answer], as_json=as_json, one=True)


@app.command()
def ls(ctx: typer.Context, as_json: Json = False) -> None:
    """List the tenants that were named; the others have no limits."""
    with connect(ctx) as client:
        found = client.tenants.list()
    _print(found, as_json=as_json)


@app.command()
def show(ctx: typer.Context, name: TenantName, as_json: Json = False) -> None:
    """Show what a tenant may use; an operator may look at the own one."""
    with connect(ctx) as client:
        found = client.tenants.show(name)
    _print([found], as_json=as_json, one=True)


@app.command()
def rm(ctx: typer.Context, name: TenantName) -> None:
    """Forget a tenant that has neither published names nor live keys."""
    with connect(ctx) as client:
        client.tenants.delete(name)
    tables.done(f"forgot {name}")


def _print(found: list[TenantAnswer], *, as_json: bool, one: bool = False) -> None:
    if as_json:
        tables.print_json(found[0] if one else {"items": found})
        return
    head = ("TENANT", "WEIGHT", "REQUESTS/S", "COST/S", "AT ONCE", "NAMES", "BYTES", "DEVICE")
    tables.table(head, [_row(tenant) for tenant in found], right=frozenset(head[1:7]))


def _row(tenant: TenantAnswer) -> tuple[str, ...]:
    quota = tenant["quota"]
    ceiling = quota["device_ceiling"]
    plain = (quota["requests_per_s"], quota["cost_per_s"], quota["concurrency"], quota["adapters"])
    return (
        tenant["name"],
        f"{quota['weight']:g}",
        *("-" if value is None else f"{value:g}" for value in plain),
        "-" if quota["nbytes"] is None else tables.size(quota["nbytes"]),
        f"{tables.size(quota['device_floor'])} to {'all' if ceiling is None else tables.size(ceiling)}",
    )


def _number(text: str | None, hint: str, kind: type[int] | type[float]) -> float | int | None:
    if text is None or text == NONE:
        return None
    try:
        return kind(text)
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} is no number; `{NONE}` takes the limit away", param_hint=hint) from error


def _size(text: str | None, hint: str) -> int | None:
    if text is None or text == NONE:
        return None
    try:
        return parse_size(text)
    except BadRequest as error:
        raise typer.BadParameter(error.detail, param_hint=hint) from error
