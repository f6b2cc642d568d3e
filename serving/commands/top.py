"""`chorus top`: what every engine does now, again and again."""

import itertools
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Annotated

import typer
from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from serving.client import Client
from serving.commands import tables
from serving.commands.meter import Load, Meter
from serving.commands.options import Json, connect

app = typer.Typer()
_HEAD = ("REPLICA", "STATE", "QUEUED", "RUNNING", "WAIT", "USES/S", "HITS", "LOADS/S")


@app.command()
def top(
    ctx: typer.Context,
    *,
    interval: Annotated[float, typer.Option(min=0.2, help="Seconds between two looks.")] = 2.0,
    once: Annotated[bool, typer.Option("--once", help="Look twice, print, and end; so it is in a pipe.")] = False,
    as_json: Json = False,
) -> None:
    """Show live what every engine does: its queue, its rates, its tiers, and who waits."""
    with connect(ctx) as client:
        if once or as_json or not sys.stdout.isatty():
            *_, found = itertools.islice(looks(client, interval), 2)
            if as_json:
                tables.print_json({"replicas": [asdict(load) for load in found]})
            else:
                tables.stdout().print(picture(found))
            return
        with Live(console=tables.stdout(), screen=True, auto_refresh=False) as live:
            try:
                for found in looks(client, interval):
                    live.update(picture(found), refresh=True)
            except KeyboardInterrupt:
                return


def looks(client: Client, interval: float) -> Iterator[tuple[Load, ...]]:
    """What the engines do, without an end; the first look has no rates."""
    meter = Meter()
    for number in itertools.count():
        if number:
            time.sleep(interval)
        yield meter.read(client.residency(), time.monotonic())


def picture(loads: Sequence[Load]) -> Group:
    """Three tables: replicas, their tiers, and who waits."""
    replicas = _table(_HEAD, [_replica(load) for load in loads])
    tiers = _table(
        ("REPLICA", "TIER", "USED", "OF", "HITS", "EVICTIONS/S"),
        [
            (
                load.replica,
                name,
                tables.size(tier.used),
                _size(tier.budget),
                _share(tier.hit_ratio),
                _rate(tier.evictions_per_s),
            )
            for load in loads
            for name, tier in load.tiers.items()
        ],
    )
    waiting = [(load.replica, tenant, f"{cost:,.0f}") for load in loads for tenant, cost in load.waiting.items()]
    lines: list[Table | Text] = [replicas, Text(), tiers]
    if waiting:
        lines += [Text(), _table(("REPLICA", "TENANT", "WAITING COST"), waiting)]
    return Group(*lines)


def _replica(load: Load) -> tuple[str, ...]:
    wait = "-" if load.wait_s is None else f"{load.wait_s * 1000:.0f} ms"
    rates = (_rate(load.uses_per_s), _share(load.hit_ratio), _rate(load.loads_per_s))
    return (load.replica, load.state, str(load.queued), str(load.running), wait, *rates)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    grid = Table(box=None, pad_edge=False, header_style="bold")
    for place, name in enumerate(head):
        grid.add_column(name, justify="left" if place < 2 else "right", overflow="fold")
    for row in rows:
        grid.add_row(*(Text(cell) for cell in row))
    return grid


def _rate(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"


def _size(value: int | None) -> str:
    return "-" if value is None else tables.size(value)
