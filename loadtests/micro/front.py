"""`python -m loadtests.micro.front`: what the way from HTTP to the engine costs, as ratios of runs side by side.

Contenders take turns on the same cores, with the same rows, adapter and engines of one thread each, one for each core.

With a real backbone: the engines without HTTP, and the service with requests of 8 texts, as fast as either can; and the
service with one short request now and then, of which counts what it takes beside the step that answers it. With a
backbone that costs next to nothing (a tiny BERT of random weights), so that the way is what is measured: the service with
requests of one text, and one whose rows are plain calls of Ray Serve (`loadtests.micro.hop`), as fast as either can. The
client shares the last core. Figures are medians over the rounds.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from loadtests.micro.asking import OFF, TEXTS, Asked, Work
from loadtests.micro.inprocess import Engines, Job
from loadtests.micro.mixed import minilm
from loadtests.proofs.backbones import tiny
from loadtests.proofs.evidence import Evidence, Figure
from loadtests.proofs.given import hardware
from loadtests.proofs.stage import StageFailed

ENGINE, EIGHT, BESIDE, STEP = "engines, rows/s", "8 texts, rows/s", "now and then, beside the step, ms", "its step, ms"
ONE, HOP = "1 text, rows/s", "1 text by plain calls, rows/s"
CHORUS, PLAIN = "serving.cli", "loadtests.micro.hop"

Found = dict[str, float]


@dataclass(frozen=True)
class Scale:
    """How much is measured."""

    rounds: int = 5
    seconds: float = 4.0  # of each contender in each round
    closed: int = 16  # requests of 8 texts under way
    singles: int = 64  # requests of one text under way
    rate: float = 20.0  # lone requests in a second


def interleaved(contenders: Sequence[Callable[[], Found]], rounds: int) -> list[Found]:
    """What all found in each round, whoever went first going last in the next; the first, which warms up, is left out."""
    found = []
    for turn in range(rounds + 1):
        shift = turn % len(contenders)
        told = [contender() for contender in (*contenders[shift:], *contenders[:shift])]
        found.append({name: figure for part in told for name, figure in part.items()})
    return found[1:]


def whole(work: Work, cores: Sequence[int], scale: Scale, folder: Path) -> list[Found]:
    """The service against its engines without one, and a lone request; raises `StageFailed`."""
    package = folder / "package"
    package.write_bytes(work.made.data)
    requests = tuple(tuple(work.forge.ids(i) for i in group) for group in work.groups(TEXTS))
    closed = -(-scale.closed // len(cores))  # of each
    job = Job(str(work.backbone), str(package), work.made.digest, requests, closed, work.dtype, tuple(cores))
    with ExitStack() as ending:
        service = Asked.started(work, folder / "service", cores, CHORUS, ending)
        engines = ending.enter_context(Engines.started(job, len(cores)))
        contenders = [
            lambda: {ENGINE: engines.run(scale.seconds)},
            lambda: {EIGHT: service.rows(TEXTS, scale.closed, scale.seconds)},
            lambda: dict(zip((BESIDE, STEP), service.alone(scale.rate, scale.seconds), strict=True)),
        ]
        return interleaved(contenders, scale.rounds)


def hops(work: Work, cores: Sequence[int], scale: Scale, folder: Path) -> list[Found]:
    """The service against one that makes a call for every row; raises `StageFailed`."""
    with ExitStack() as ending:
        own, plain = (Asked.started(work, folder / name, cores, name, ending) for name in (CHORUS, PLAIN))
        contenders = [
            lambda: {ONE: own.rows(1, scale.singles, scale.seconds)},
            lambda: {HOP: plain.rows(1, scale.singles, scale.seconds)},
        ]
        return interleaved(contenders, scale.rounds)


def judged(service: Sequence[Found], hop: Sequence[Found], seed: int) -> Evidence:
    """The figures and their bounds."""
    eight, one = [found[EIGHT] / found[ENGINE] for found in service], [found[ONE] / found[HOP] for found in hop]
    beside = statistics.median(found[BESIDE] for found in service)
    figures = (
        Figure("8 texts over HTTP, of the engines without", statistics.median(eight), ">=", 0.85, "ratio"),
        Figure("1 text, over plain calls", statistics.median(one), ">=", 3.0, "ratio"),
        Figure("now and then, beside the step", beside, "<=", 6.0, "ms"),
    )
    seen = {
        "medians": _medians(service) | _medians(hop),
        "ratios of rounds": {EIGHT: eight, ONE: one},
    }
    return Evidence("front", seed, figures, {**seen, **hardware()})


def _medians(rounds: Sequence[Found]) -> Found:
    return {name: statistics.median(found[name] for found in rounds) for name in rounds[0]}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print JSON; exit code 1 where a figure does not hold, 4 where it could not be measured."""
    scale, here = Scale(), sorted(os.sched_getaffinity(0))
    args = argparse.ArgumentParser(prog="python -m loadtests.micro.front", description=__doc__)
    args.add_argument("--backbone", type=Path, help="model folder; default is the installed all-MiniLM-L6-v2")
    args.add_argument("--dtype", choices=sorted(OFF), default="float32", help="of the real backbone")
    args.add_argument("--cores", type=int, default=len(here), choices=range(1, len(here) + 1), metavar="N")
    args.add_argument("--rounds", type=int, default=scale.rounds)
    args.add_argument("--seconds", type=float, default=scale.seconds, help="of each contender in each round")
    args.add_argument("--seed", type=int, default=0)
    args.add_argument("--json", type=Path, metavar="FILE")
    given = args.parse_args(arguments)
    scale, cores = Scale(given.rounds, given.seconds), here[: given.cores]
    with tempfile.TemporaryDirectory(prefix="chorus-front-") as name:
        folder = Path(name)
        try:
            service = whole(Work.of(given.backbone or minilm(), given.dtype, given.seed), cores, scale, folder)
            small = Work.of(tiny(folder / "tiny", given.seed), "float32", given.seed)
            evidence = judged(service, hops(small, cores, scale, folder / "hops"), given.seed)
        except StageFailed as error:
            print(f"error: {error}", file=sys.stderr)
            return 4
    text = json.dumps(evidence.json(), indent=2)
    print(text)
    if given.json is not None:
        given.json.write_text(f"{text}\n")
    return 0 if evidence.holds else 1


if __name__ == "__main__":
    sys.exit(main())
