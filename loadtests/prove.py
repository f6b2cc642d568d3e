"""`python -m loadtests prove NAME`: break a promise of the service, and see that it is kept.

Exit codes: 0 the promise was kept, 1 it was broken, 2 usage, 4 the proof could not run.
"""

import argparse
import json
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType

from loadtests.proofs.given import Given, hardware
from loadtests.proofs.stage import StageFailed
from loadtests.proofs.table import PROOFS
from serving.errors import ServiceError


def parser() -> argparse.ArgumentParser:
    """The command line."""
    args = argparse.ArgumentParser(prog="python -m loadtests prove", description=__doc__)
    args.add_argument("proof", choices=sorted(PROOFS), help="; ".join(f"{n}: {p.about}" for n, p in PROOFS.items()))
    args.add_argument("--quick", action="store_true", help="the same checks on less")
    args.add_argument("--seed", type=int, default=0)
    args.add_argument("--json", type=Path, metavar="FILE", help="write the evidence there as well")
    args.add_argument("--keep", type=Path, metavar="DIR", help="a new folder for everything, which is left as it is")
    return args


def main(arguments: Sequence[str]) -> int:
    """Do what the command line says, and return the exit code."""
    given = parser().parse_args(arguments)
    return prove(given.proof, quick=given.quick, seed=given.seed, written=given.json, keep=given.keep)


def prove(name: str, *, quick: bool, seed: int, written: Path | None, keep: Path | None) -> int:
    """Run one proof and print its evidence as JSON; 0 where every figure holds."""
    with ExitStack() as ending:
        if keep is None:
            folder = Path(ending.enter_context(TemporaryDirectory(prefix="chorus-proof-")))
        else:
            keep.mkdir(parents=True)
            folder = keep
        began, failed = time.monotonic(), list[str]()
        held = signal.signal(signal.SIGTERM, _leave)  # what a proof has started has to go with it
        ending.callback(signal.signal, signal.SIGTERM, held)
        try:
            evidence = PROOFS[name].run(Given(folder.resolve(), seed, quick))
        except* (StageFailed, ServiceError) as group:
            failed = [str(error) for error in group.exceptions]
    if failed:
        print(f"error: {'; '.join(failed)}", file=sys.stderr)
        return 4
    told = {**evidence.json(), "quick": quick, "seconds": time.monotonic() - began, "hardware": hardware()}
    text = json.dumps(told, indent=2)
    print(text)
    if written is not None:
        written.write_text(f"{text}\n")
    return 0 if evidence.holds else 1


def _leave(number: int, _frame: FrameType | None) -> None:
    sys.exit(128 + number)
