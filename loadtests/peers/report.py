"""A run as text and as JSON."""

import math
import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from loadtests.peers.contenders import BF16, BOTTLENECK, CHORUS, DOUBLE, LIBRARIES, LORA, Contender
from loadtests.peers.ratios import Spread
from loadtests.peers.standing import Outcome, Pair, Standing
from loadtests.proofs.evidence import Figure
from loadtests.proofs.given import hardware

WORDS = {BOTTLENECK: "bottleneck", DOUBLE: "double bottleneck", LORA: "LoRA", None: "backbone only"}
INSTRUCTIONS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "asimd", "bf16")  # that arithmetic depends on


def machine(cpuinfo: Path = Path("/proc/cpuinfo")) -> dict[str, Any]:
    """The machine, with the name of its processor and which of the instructions that matter it has, where known."""
    told: dict[str, Any] = hardware()
    if cpuinfo.is_file():
        lines = dict(_members(cpuinfo.read_text()))
        flags = (lines.get("flags") or lines.get("Features") or "").split()
        told["processor"] = lines.get("model name", platform.processor())
        told["instructions"] = [name for name in INSTRUCTIONS if name in flags]
    return told


def as_json(outcomes: Sequence[Outcome], figures: Sequence[Figure], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Everything; what is no number is null."""
    return {
        "settings": dict(settings),
        "machine": machine(),
        "backbones": [outcome.json() for outcome in outcomes],
        "figures": [
            {**asdict(figure), "value": None if math.isnan(figure.value) else figure.value, "holds": figure.holds}
            for figure in figures
        ],
    }


def lines(outcome: Outcome) -> list[str]:
    """The table of one backbone."""
    pairs: dict[Contender, list[Pair]] = {}
    for pair in outcome.pairs():
        pairs.setdefault(pair.peer, []).append(pair)
    told = [f"{outcome.backbone}: {outcome.rows} rows, {outcome.tokens} tokens"]
    names = [_name(standing) for standing in outcome.standings]
    width = max(map(len, names))
    told.append(f"{'':<{width}}{'ms':>9}{'rows/s':>9}  {'Chorus is faster by':<24}Chorus in bf16")
    for name, standing in zip(names, outcome.standings, strict=True):
        told.append(f"{name:<{width}}{_figures(outcome, standing, pairs.get(standing.contender, []))}".rstrip())
    return told


def verdict(figures: Sequence[Figure]) -> list[str]:
    """One line per bound."""
    return [f"{'holds' if f.holds else 'FAILS':<7}{f.name}: {f.value:.2f} {f.bound} {f.limit:g}" for f in figures]


def title(one: Contender) -> str:
    """A contender in words."""
    return f"{LIBRARIES[one.library].title} {one.way}, {WORDS[one.method]}"


def _name(standing: Standing) -> str:
    name = f"{standing.contender.precision:<5}{title(standing.contender)}"
    return f"{name} ({standing.note})" if standing.note else name


def _figures(outcome: Outcome, standing: Standing, pairs: Sequence[Pair]) -> str:
    one = standing.contender
    equal = [pair.spread for pair in pairs if pair.own.precision == one.precision]
    other = [pair.spread for pair in pairs if pair.own.precision == BF16 != one.precision]
    own = "" if one.library != CHORUS else "-"
    shown = f"{1e3 * standing.median:9.1f}{outcome.rows / standing.median:9.1f}  "
    shown += f"{_show(equal) or own:<24}{_show(other):<24}"
    if not standing.agreement.holds:
        shown += f"WRONG: off by {standing.agreement.distance:.2g}, cosine {standing.agreement.least_cosine:.4f}"
    return shown


def _show(spreads: Sequence[Spread]) -> str:
    return "".join(f"{s.median:.2f}x ({s.lower:.2f} to {s.upper:.2f})" for s in spreads)


def _members(text: str) -> Iterator[tuple[str, str]]:
    for line in text.splitlines():
        name, colon, value = line.partition(":")
        if colon:
            yield name.strip(), value.strip()
