"""The command line of `python -m loadtests peers`.

Exit codes: 0 all answers right (and with `--judge` all ratios as they have to be), 1 not so, 2 usage, 4 a library could
not be installed, loaded or run.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from loadtests.peers import page, picture, report
from loadtests.peers.contenders import CHORUS, LIBRARIES, METHODS, PRECISIONS, contenders
from loadtests.peers.judge import judge
from loadtests.peers.process import PeerFailed
from loadtests.peers.running import Settings, Start, run
from loadtests.peers.standing import Outcome
from loadtests.peers.workload import BACKBONES, MINILM

PEERS = tuple(name for name in LIBRARIES if name != CHORUS)
ROUNDS, QUICK_ROUNDS = 9, 3


def parser() -> argparse.ArgumentParser:
    """The command line."""
    args = argparse.ArgumentParser(prog="python -m loadtests peers", description=__doc__)
    args.add_argument("--contender", action="append", choices=PEERS, help="beside Chorus; default all; may be repeated")
    args.add_argument("--backbone", action="append", choices=list(BACKBONES), help="default all; may be repeated")
    args.add_argument("--precision", action="append", choices=PRECISIONS, help="default all; may be repeated")
    args.add_argument("--method", action="append", choices=METHODS, help="default all; may be repeated")
    args.add_argument("--rows", type=int, default=32, help="rows of the batch, each with an adapter of its own")
    args.add_argument("--rounds", type=int, help=f"default {ROUNDS}, with --quick {QUICK_ROUNDS}")
    args.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="and cores, of every contender")
    args.add_argument("--seed", type=int, default=0)
    args.add_argument("--quick", action="store_true", help=f"{QUICK_ROUNDS} rounds on {MINILM}")
    args.add_argument("--judge", action="store_true", help="exit code 1 where a ratio is below its bound")
    args.add_argument("--cache", type=Path, default=Path("data/peers"), help="environments, converted models, backbone")
    args.add_argument("--out", type=Path, help="folder for peers.json, peers.png and peers.html")
    return args


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, write, and return the exit code."""
    args = parser()
    given = args.parse_args(arguments)
    for name in ("rows", "rounds", "threads"):
        if getattr(given, name) is not None and getattr(given, name) < 1:
            args.error(f"--{name} must be at least 1")
    if given.threads > len(os.sched_getaffinity(0)):
        args.error(f"--threads {given.threads}: there are {len(os.sched_getaffinity(0))} cores")
    backbones = given.backbone or ([MINILM] if given.quick else list(BACKBONES))
    try:
        outcomes = [_measured(name, given) for name in dict.fromkeys(backbones)]
    except PeerFailed as failure:
        print(f"error: {failure}", file=sys.stderr)
        return 4
    return _told(outcomes, given)


def _measured(backbone: str, given: argparse.Namespace) -> Outcome:
    methods = tuple(method for method in METHODS if method in (given.method or METHODS))
    rounds = given.rounds or (QUICK_ROUNDS if given.quick else ROUNDS)
    chosen = contenders(given.contender or PEERS, given.precision or PRECISIONS, methods)
    settings = Settings(backbone, chosen, methods, given.rows, rounds, given.threads, given.seed, given.cache)
    with TemporaryDirectory(prefix="chorus-peers-") as folder:
        return run(settings, Start(Path(folder), dict(os.environ), lambda text: print(text, file=sys.stderr)))


def _told(outcomes: Sequence[Outcome], given: argparse.Namespace) -> int:
    figures = [figure for outcome in outcomes for figure in judge(outcome)]
    folder = given.out or Path("data") / "loadtests" / f"peers-{time.strftime('%Y%m%d-%H%M%S')}"
    folder.mkdir(parents=True, exist_ok=True)
    settings = {name: str(value) if isinstance(value, Path) else value for name, value in vars(given).items()}
    whole = report.as_json(outcomes, figures, settings)
    (folder / "peers.json").write_text(json.dumps(whole, indent=1, allow_nan=False) + "\n")
    picture.draw(outcomes, folder / "peers.png")
    (folder / "peers.html").write_text(page.html(outcomes, figures, whole["machine"]))
    for outcome in outcomes:
        print("\n".join([*report.lines(outcome), ""]))
    print("\n".join([*report.verdict(figures), f"written to {folder}"]))
    if given.judge and not any(figure.unit == "ratio" for figure in figures):
        print("error: --judge: no ratio of these contenders has a bound; leave --contender out", file=sys.stderr)
        return 2
    held = all(figure.holds for figure in figures) if given.judge else not any(map(Outcome.wrong, outcomes))
    return 0 if held else 1
