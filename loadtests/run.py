"""One run: make adapters for the served backbone, publish them, learn their answers, send the trace, judge, report."""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from loadtests.answers import Reference, smallest_distance
from loadtests.drive import Outcome, Sample, drive
from loadtests.plot import draw
from loadtests.report import Report, make_report
from loadtests.service import Service, ServiceFailed, connect
from loadtests.synthetic import SyntheticAdapter, make_adapters
from loadtests.trace import TraceSpec, make_texts, make_trace

TEXTS = 64
PIECES_PER_WORD = 6


@dataclass(frozen=True)
class Settings:
    """One run against one service. `tolerance` is absolute on raw logits; `timeout_s` ends a request as an error."""

    scenario: str
    url: str
    trace: TraceSpec
    out: Path
    methods: tuple[str, ...] = ()
    tolerance: float = 1e-4
    timeout_s: float = 60.0


@dataclass(frozen=True, eq=False)
class Population:
    """The published adapters, and for each of them its texts with its answers to them."""

    adapters: tuple[SyntheticAdapter, ...]
    texts: tuple[tuple[str, ...], ...]
    references: tuple[tuple[Reference, ...], ...]


async def run(settings: Settings, key: str | None, tell: Callable[[str], None]) -> Report:
    """Run and write `report.json`, `samples.jsonl` and `report.png`; raises `ServiceFailed` before the load starts."""
    trace = make_trace(settings.trace)
    if not len(trace):
        raise ServiceFailed("the trace is empty: no request arrives within the duration")
    async with connect(settings.url, key, settings.tolerance, settings.timeout_s) as service:
        population = await prepare(service, settings, tell)
        tell(f"sending {len(trace)} requests over {trace.at[-1]:.1f} s")

        async def send(index: int) -> Outcome:
            number, text = int(trace.adapter[index]), int(trace.text[index])
            return await service.ask(
                population.adapters[number], population.texts[number][text], population.references[number][text]
            )

        samples = await drive(trace, send, time.monotonic)
    return finish(settings, samples)


async def prepare(service: Service, settings: Settings, tell: Callable[[str], None]) -> Population:
    """Publish, and ask each adapter alone about each of its texts. Raises `ServiceFailed` if two could be mixed up."""
    spec = settings.trace
    profile = await service.profile()
    adapters = make_adapters(profile, spec.adapters, spec.seed, settings.methods)
    tell(f"publishing {len(adapters)} adapters for {profile.id}")
    await service.publish(adapters)
    pool = make_texts(TEXTS, spec.seed, longest=longest_text(profile.geometry.max_tokens))
    # The first text is everyone's: on it, the answers of all adapters must differ.
    texts = tuple(
        (pool[0], *(pool[(number * 7 + k) % TEXTS] for k in range(1, spec.texts_per_adapter)))
        for number in range(len(adapters))
    )
    tell(f"asking each alone, {spec.texts_per_adapter} texts")
    references = []
    for adapter, own in zip(adapters, texts, strict=True):
        references.append(tuple([await service.reference(adapter, text) for text in own]))
    distance = smallest_distance([held[0] for held in references])
    if distance <= 2 * settings.tolerance:
        raise ServiceFailed(f"two adapters answer within {distance:.2g} of each other: a mix-up would not show")
    return Population(adapters, texts, tuple(references))


def longest_text(max_tokens: int) -> int:
    """Words that surely fit, whatever the tokenizer makes of them; prompts and special tokens take room as well."""
    return max(3, min(96, (max_tokens - 16) // PIECES_PER_WORD))


def finish(settings: Settings, samples: tuple[Sample, ...]) -> Report:
    """Report, files and picture."""
    told = asdict(settings.trace) | {
        "url": settings.url,
        "methods": list(settings.methods),
        "tolerance": settings.tolerance,
        "timeout_s": settings.timeout_s,
    }
    report = make_report(settings.scenario, told, samples)
    report.write(settings.out, samples)
    draw(report, settings.out / "report.png")
    return report
