"""`python -m loadtests run SCENARIO`: drive a service, check every answer, judge, report.

Without --url a service is started on loopback with a data folder of its own, and is gone afterwards. Exit codes: 0 every
figure is as it has to be, 1 one is not (a wrong answer, a threshold, a client that could not keep up), 2 the run could not be made,
130 it was interrupted.
"""

import argparse
import asyncio
import shlex
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType

from loadtests.client.crew import CrewFailed
from loadtests.pages.page import draw_all
from loadtests.pages.terminal import print_run
from loadtests.proofs.stage import StageFailed
from loadtests.results import folder as folders
from loadtests.running.preparing import NotPrepared
from loadtests.running.rounds import execute
from loadtests.running.settings import OUT, settings_of
from loadtests.running.showing import Show
from loadtests.scenarios.reading import BadScenario, names
from loadtests.served.api import ServiceFailed
from loadtests.served.backbones import MINILM, TINY, NoBackbone
from loadtests.served.population import TooAlike
from loadtests.served.target import TOLERANCES, BadTarget

REFUSALS = (BadScenario, BadTarget, CrewFailed, NoBackbone, NotPrepared, ServiceFailed, StageFailed, TooAlike)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    args = argparse.ArgumentParser(prog="python -m loadtests run", description=__doc__)
    args.add_argument("scenario", help=f"the path of a TOML file, or one of {', '.join(names())}")
    args.add_argument("--set", action="append", default=[], metavar="TABLE.MEMBER=VALUE", help="another value, in TOML")
    args.add_argument("--out", type=Path, help=f"a new folder for the report; default: one under {OUT}")
    args.add_argument("--seed", type=int, default=0)
    args.add_argument("--clients", type=int, default=1, metavar="N", help="client processes (1)")
    args.add_argument("--tolerance", type=float, help="absolute, on raw logits; default: by --dtype")
    args.add_argument("--dtype", choices=sorted(TOLERANCES), default="float32", help="what the service computes in")
    args.add_argument("--backbone", help=f"{TINY}, {MINILM} (default) or a folder; with --url: what is served there")
    args.add_argument("--quiet", action="store_true", help="no progress")
    own = args.add_argument_group("a service of our own")
    own.add_argument("--engines", type=int, default=1)
    own.add_argument("--gateways", type=int, default=1)
    own.add_argument("--threads", type=int, default=1, help="of each engine")
    own.add_argument("--serve", default="", metavar="WORDS", help="further words for `chorus serve`")
    other = args.add_argument_group("a running service")
    other.add_argument("--url", help="where it answers")
    other.add_argument("--key-file", type=Path, help="one key (scopes publish, predict), or lines `TENANT KEY`")
    other.add_argument("--leave", action="store_true", help="do not retire what was published")
    return args


def main(arguments: Sequence[str]) -> int:
    """Run, report, and return the exit code."""
    given = parser().parse_args(arguments)
    held = signal.signal(signal.SIGTERM, _leave)  # what a run has started has to go with it
    try:
        with TemporaryDirectory(prefix="chorus-load-") as scratch, Show(quiet=given.quiet) as show:
            settings = settings_of(given, shlex.join(["python", "-m", "loadtests", "run", *arguments]), Path(scratch))
            run = asyncio.run(execute(settings, Path(scratch), show))
            folders.write(settings.out, run)
            show.begin("drawing", 1)
            written = draw_all(run, settings.out)
    except REFUSALS as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("error: interrupted", file=sys.stderr)
        return 130
    finally:
        signal.signal(signal.SIGTERM, held)
    print_run(run, written)
    return 0 if run.passed else 1


def _leave(number: int, _frame: FrameType | None) -> None:
    sys.exit(128 + number)
