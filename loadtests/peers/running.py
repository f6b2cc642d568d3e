"""One backbone from start to end: make the work, start everyone, compare the answers, and let them meet."""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from loadtests.peers.agreement import Agreement, States, agreement
from loadtests.peers.contenders import CHORUS, FP32, LIBRARIES, Contender, counterpart
from loadtests.peers.environments import interpreter, surroundings
from loadtests.peers.meeting import Entrant, meet
from loadtests.peers.messages import Work
from loadtests.peers.process import PeerProcess
from loadtests.peers.standing import Outcome, Standing
from loadtests.peers.workload import BACKBONES, Workload, make_workload

REST_S = 0.02


@dataclass(frozen=True)
class Settings:
    """What is to be measured, and how often; `cache` keeps environments, converted models and the seeded backbone."""

    backbone: str
    contenders: tuple[Contender, ...]
    methods: tuple[str, ...]
    rows: int
    rounds: int
    threads: int
    seed: int
    cache: Path


@dataclass(frozen=True)
class Start:
    """Where and how processes are started: a folder for logs and answers, and the environment to pass on."""

    folder: Path
    environment: dict[str, str]
    tell: Callable[[str], None]


def run(settings: Settings, start: Start) -> Outcome:
    """Measure on one backbone; raises `PeerFailed` where a library can not be installed, loaded or run."""
    settings.cache.mkdir(parents=True, exist_ok=True)
    cache = settings.cache.resolve()
    backbone = BACKBONES[settings.backbone](cache)
    workload = make_workload(backbone, start.folder / "adapters", settings.rows, settings.methods, settings.seed)
    with ExitStack() as ending:
        processes, versions = {}, {}
        for library, precision in _processes(settings.contenders):
            start.tell(f"{settings.backbone}: {LIBRARIES[library].title} {precision}")
            process = ending.enter_context(closing(_started(library, precision, settings.threads, cache, start)))
            work = _work(settings, workload, library, precision, cache)
            versions[library] = process.ask({"do": "open", "work": work.json()})["versions"]
            processes[library, precision] = process
        entrants = [Entrant(one, processes[one.library, one.precision]) for one in settings.contenders]
        start.tell(f"{settings.backbone}: comparing answers")
        found = _compared(entrants, processes[CHORUS, FP32], start.folder)
        seconds = meet(entrants, settings.rounds, lambda: time.sleep(REST_S), start.tell)
    standings = tuple(Standing(one, seconds[one], *found[one]) for one in settings.contenders)
    return Outcome(settings.backbone, settings.rows, workload.tokens, standings, versions)


def _processes(contenders: Sequence[Contender]) -> list[tuple[str, str]]:
    """(library, precision), each once; Chorus in float32 always, as it is what all answers are compared with."""
    return list(dict.fromkeys([(CHORUS, FP32), *((one.library, one.precision) for one in contenders)]))


def _started(library: str, precision: str, threads: int, cache: Path, start: Start) -> PeerProcess:
    python = interpreter(library, cache / "environments")
    cores = sorted(os.sched_getaffinity(0))[:threads]
    return PeerProcess(
        f"{library} {precision}",
        [str(python), "-m", "loadtests.peers.worker", library],
        surroundings(start.environment, library, cache / "links", threads),
        cores,
        start.folder / f"{library}-{precision}.log",
    )


def _work(settings: Settings, workload: Workload, library: str, precision: str, cache: Path) -> Work:
    converted = cache / "converted" / settings.backbone
    converted.mkdir(parents=True, exist_ok=True)
    methods = tuple(method for method in settings.methods if method in LIBRARIES[library].methods)
    return Work(workload.backbone, workload.adapters, converted, workload.rows, methods, precision, settings.threads)


def _compared(
    entrants: Sequence[Entrant], referee: PeerProcess, folder: Path
) -> dict[Contender, tuple[Agreement, str]]:
    """Per contender how its answers agree with those of Chorus in float32, and its note."""
    wanted = dict.fromkeys(counterpart(entrant.contender, FP32) for entrant in entrants)
    references = {one: _answers(Entrant(one, referee), folder)[0] for one in wanted}
    return dict(_agreements(entrants, references, folder))


def _agreements(
    entrants: Sequence[Entrant], references: dict[Contender, States], folder: Path
) -> Iterator[tuple[Contender, tuple[Agreement, str]]]:
    for entrant in entrants:
        found, note = _answers(entrant, folder)
        one = entrant.contender
        yield one, (agreement(found, references[counterpart(one, FP32)], one.precision), note)


def _answers(entrant: Entrant, folder: Path) -> tuple[States, str]:
    file = folder / "answers.npy"
    note: str = entrant.ask("answer", to=str(file))["note"]
    found: States = np.load(file, allow_pickle=False)
    return found, note
