"""The tables of the page as plain words: steps, the client, and on what all of it ran."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from loadtests.client.plan import RIGHT
from loadtests.pages.terminal import number
from loadtests.results.record import Run, Take
from loadtests.scenarios.steps import WORDS, named
from loadtests.served.counters import TIER_WORDS, TIERS


@dataclass(frozen=True)
class Table:
    """Columns by their words, and one row per take."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def steps_of(run: Run) -> Table:
    """What each take offered and got, and what the service did for it."""
    tiers = [f"hit ratio {TIER_WORDS[tier]}" for tier in TIERS]
    columns = ["offered/s", "right/s", "rows/s", "p50 ms", "p90", "p99", "max", "adapters asked"]
    columns += ["distinct per batch", "rows per batch", *tiers, "not right"]
    return _table(run, columns, _step)


def client_of(run: Run) -> Table:
    """How well the client kept up, and who used the machine."""
    columns = ["processes", "connections", "sent again", "left late, p99 ms", "max", "loop late, p99 ms", "max"]
    columns += ["cores: client", "service", "others"]
    return _table(run, columns, _client)


def facts_of(run: Run) -> dict[str, dict[str, str]]:
    """What was offered, what served it, and on which machine; what is not known is left out."""
    machine = "machine" if run.service.get("own") else "the client's machine; of the service's nothing is known"
    groups = {"population": run.population, "service": run.service, machine: run.environment}
    return {
        group: {_name(key): text for key, value in facts.items() if (text := _text(key, value))}
        for group, facts in groups.items()
    }


def _table(run: Run, columns: list[str], cells: Any) -> Table:
    swept, rounds = run.scenario.sweep, any(take.round for take in run.takes)
    first = [WORDS[swept.over]] if swept else []
    first += ["round"] if rounds else []
    rows = []
    for take in run.takes:
        place = [named(take.value)] if swept else []
        place += [str(take.round + 1)] if rounds else []
        rows.append((*place, *cells(take)))
    return Table((*first, *columns), tuple(rows))


def _step(take: Take) -> tuple[str, ...]:
    sums, waits, counted = take.sums, take.sums.waits, take.counted
    offered = "closed loop" if take.rate is None else number(sums.offered_per_s)
    figures = (sums.right_per_s, sums.rows_per_s, waits.p50, waits.p90, waits.p99, waits.max, float(sums.adapters))
    batch = (None, None) if counted is None else (counted.distinct_per_batch, counted.rows_per_batch)
    hits = [None if counted is None else counted.hit_ratio[tier] for tier in TIERS]
    wrong = [f"{count} {verdict}" for verdict, count in sums.verdicts.items() if verdict != RIGHT]
    why = [f"{what} ({count})" for what, count in sums.details.items()]
    return offered, *map(number, (*figures, *batch, *hits)), ", ".join(wrong) + (f": {'; '.join(why)}" if why else "")


def _client(take: Take) -> tuple[str, ...]:
    client = take.client
    late = (client.sent_p99_ms, client.sent_max_ms, client.loop_p99_ms, client.loop_max_ms)
    cores = (client.cores, client.service_cores, client.other_cores)
    sent = (client.processes, client.connections, client.again)
    return (*map(str, sent), *map(number, (*late, *cores)))


def _name(key: str) -> str:
    return key.removesuffix("_bytes").removesuffix("_gib").replace("_", " ")


def _text(key: str, value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None or value in ("", [], ()):
        return ""
    if key.endswith("_bytes"):
        return size(float(value))
    if key.endswith("_gib"):
        return f"{value} GiB"
    if isinstance(value, int | float):
        return number(float(value))
    if isinstance(value, Mapping):
        return ", ".join(
            f"{name} {_text(f'{name}_bytes' if key == 'budgets' else name, held)}" for name, held in value.items()
        )
    if isinstance(value, list | tuple):
        budgets = key == "budgets"  # one for each room that was swept
        return ("; " if budgets else ", ").join(_text(key if budgets else "", held) for held in value)
    return str(value)


def size(count: float) -> str:
    """Bytes in a unit in which they are a small number."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024 or unit == "GiB":
            break
        count /= 1024
    return f"{count:.3g} {unit}"
