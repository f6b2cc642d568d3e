"""What a run found: percentiles overall, for hits and for misses, errors, wrong answers, and a time series."""

import json
import os
import platform
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from loadtests.drive import ERROR, WRONG, Sample

PERCENTILES = (50, 90, 95, 99)
WINDOWS = 30
SHOWN_FAULTS = 20


@dataclass(frozen=True)
class Latency:
    """Milliseconds of `count` answered requests; all None where there were none."""

    count: int
    mean: float | None
    percentiles: Mapping[str, float | None]
    max: float | None


@dataclass(frozen=True)
class Window:
    """One slice of time, by when requests were due: seconds, requests per second, p50 and p99 in ms, hit rate."""

    start: float
    end: float
    offered: float
    answered: float
    p50: float | None
    p99: float | None
    hit_rate: float | None


@dataclass(frozen=True)
class Report:
    """One run. `settings` and `environment` say what was run where; times are milliseconds unless named otherwise."""

    scenario: str
    settings: Mapping[str, Any]
    environment: Mapping[str, Any]
    requests: int
    answered: int
    wrong: int
    errors: Mapping[str, int]
    hit_rate: float | None
    distinct_adapters: int
    seconds: float
    throughput: float  # answers per second
    send_lag_p99: float
    latency: Mapping[str, Latency]  # "all", "hit", "miss"
    faults: Sequence[str]
    windows: Sequence[Window]

    def write(self, folder: Path, samples: Sequence[Sample]) -> Path:
        """Write `report.json`, and every sample beside it as `samples.jsonl`."""
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "samples.jsonl").open("w") as file:
            file.writelines(json.dumps(asdict(sample)) + "\n" for sample in samples)
        path = folder / "report.json"
        path.write_text(json.dumps(asdict(self), indent=1, allow_nan=False) + "\n")
        return path

    def lines(self) -> list[str]:
        """The report in a few lines of text."""
        failed = sum(self.errors.values())
        told = [
            f"{self.scenario}: {self.requests} requests to {self.distinct_adapters} adapters in {self.seconds:.1f} s",
            f"{self.throughput:.1f} answers/s, wrong answers {self.wrong}, errors {failed} {self.errors or ''}".rstrip(),
            f"hit rate {_show(self.hit_rate, '.3f')}, send lag p99 {self.send_lag_p99:.1f} ms",
        ]
        for name, latency in self.latency.items():
            parts = ", ".join(f"{key} {_show(value, '.1f')}" for key, value in latency.percentiles.items())
            told.append(f"{name:>4} ({latency.count}): {parts}, max {_show(latency.max, '.1f')} ms")
        return told + [f"wrong: {fault}" for fault in self.faults]


def make_report(scenario: str, settings: Mapping[str, Any], samples: Sequence[Sample]) -> Report:
    """Count and sum up; `samples` must not be empty."""
    answered = [sample for sample in samples if sample.outcome.verdict != ERROR]
    wrong = [sample for sample in samples if sample.outcome.verdict == WRONG]
    errors = Counter(
        f"{sample.outcome.status} {sample.outcome.detail}".strip()
        for sample in samples
        if sample.outcome.verdict == ERROR
    )
    seconds = max(sample.done for sample in samples)
    tiers = {"all": answered} | {
        tier: [sample for sample in answered if sample.outcome.tier == tier] for tier in ("hit", "miss")
    }
    return Report(
        scenario=scenario,
        settings=settings,
        environment=environment(),
        requests=len(samples),
        answered=len(answered),
        wrong=len(wrong),
        errors=dict(errors.most_common()),
        hit_rate=hit_rate(answered),
        distinct_adapters=len({sample.adapter for sample in samples}),
        seconds=seconds,
        throughput=len(answered) / seconds if seconds else 0.0,
        send_lag_p99=float(np.percentile([1e3 * (sample.sent - sample.due) for sample in samples], 99)),
        latency={name: latency_of(group) for name, group in tiers.items()},
        faults=[f"request {s.index}, adapter {s.adapter}: {s.outcome.detail}" for s in wrong[:SHOWN_FAULTS]],
        windows=windows_of(samples),
    )


def latency_of(samples: Sequence[Sample]) -> Latency:
    """Percentiles (linear between ranks) of answered requests."""
    if not samples:
        return Latency(0, None, {f"p{p}": None for p in PERCENTILES}, None)
    values = 1e3 * np.array([sample.latency for sample in samples])
    found = np.percentile(values, PERCENTILES)
    return Latency(
        count=len(values),
        mean=float(values.mean()),
        percentiles={f"p{p}": float(value) for p, value in zip(PERCENTILES, found, strict=True)},
        max=float(values.max()),
    )


def hit_rate(answered: Sequence[Sample]) -> float | None:
    """Share of answers whose adapters were all on the device when first asked for."""
    return sum(sample.outcome.tier == "hit" for sample in answered) / len(answered) if answered else None


def windows_of(samples: Sequence[Sample], count: int = WINDOWS) -> list[Window]:
    """Equal slices of the run; answers count in the slice in which they came, latencies where they were due."""
    edges = np.linspace(0.0, max(sample.done for sample in samples), count + 1)
    found = []
    for start, end in pairwise(edges):
        last = end == edges[-1]
        due = [s for s in samples if start <= s.due < end or (last and s.due == end)]
        came = [
            s for s in samples if s.outcome.verdict != ERROR and (start <= s.done < end or (last and s.done == end))
        ]
        good = [sample for sample in due if sample.outcome.verdict != ERROR]
        latency, width = latency_of(good), float(end - start) or 1.0
        found.append(
            Window(
                start=float(start),
                end=float(end),
                offered=len(due) / width,
                answered=len(came) / width,
                p50=latency.percentiles["p50"],
                p99=latency.percentiles["p99"],
                hit_rate=hit_rate(good),
            )
        )
    return found


def environment() -> dict[str, Any]:
    """The machine that sent the load."""
    return {"platform": platform.platform(), "python": platform.python_version(), "cores": os.cpu_count()}


def _show(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)
