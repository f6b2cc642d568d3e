"""Two reports side by side."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any


def read_report(path: Path) -> dict[str, Any]:
    """A `report.json`, or the folder that holds one."""
    value: dict[str, Any] = json.loads((path / "report.json" if path.is_dir() else path).read_text())
    return value


def compare(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[str]:
    """One line per figure: A, B, and B / A. Settings that differ come first."""
    told = [f"setting {key}: {old} -> {new}" for key, old, new in _differences(a["settings"], b["settings"])]
    told.append(f"{'figure':<20}{'A':>12}{'B':>12}{'B/A':>8}")
    for name, one, two in _figures(a, b):
        ratio = f"{two / one:.2f}" if one and two is not None else "-"
        told.append(f"{name:<20}{_show(one):>12}{_show(two):>12}{ratio:>8}")
    return told


def _figures(a: Mapping[str, Any], b: Mapping[str, Any]) -> Iterator[tuple[str, float | None, float | None]]:
    for name in ("requests", "answered", "wrong", "throughput", "hit_rate", "send_lag_p99"):
        yield name, a[name], b[name]
    yield "errors", sum(a["errors"].values()), sum(b["errors"].values())
    for tier in a["latency"]:
        for percentile, value in a["latency"][tier]["percentiles"].items():
            yield f"{tier} {percentile} ms", value, b["latency"][tier]["percentiles"][percentile]


def _differences(a: Mapping[str, Any], b: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    for key in sorted(a.keys() | b.keys()):
        if a.get(key) != b.get(key):
            yield key, a.get(key), b.get(key)


def _show(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}".rstrip("0").rstrip(".")
