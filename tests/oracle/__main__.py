"""`python -m tests.oracle`: drawn configurations through the real libraries and back; exit code 1 where one failed."""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from transformers.utils import logging

from loadtests.peers.process import PeerFailed
from tests.oracle.libraries import Library, WorkerFailed
from tests.oracle.run import trip

NAMES = ("adapterhub", "peft")
CACHE = Path(__file__).resolve().parents[2] / "data" / "peers"


def parser() -> argparse.ArgumentParser:
    """The command line."""
    args = argparse.ArgumentParser(prog="python -m tests.oracle", description=__doc__)
    args.add_argument("--library", choices=NAMES, action="append", help="only this one (default: both)")
    args.add_argument("--count", type=int, default=200, metavar="N", help="cases of each library (default: 200)")
    args.add_argument("--seed", type=int, metavar="S", help="what is drawn (default: the time; it is printed)")
    args.add_argument("--cache", type=Path, default=CACHE, metavar="DIR", help="the libraries' environments")
    args.add_argument("--keep", type=Path, metavar="DIR", help="an empty folder that keeps the cases")
    return args


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, print what did not pass and the counts, and return the exit code."""
    given = parser().parse_args(arguments)
    seed = int(time.time()) if given.seed is None else given.seed
    logging.set_verbosity_error()  # it reports what a bare backbone leaves of a language model's checkpoint
    sys.stdout.write(f"seed {seed}\n")
    good = True
    for name in given.library or NAMES:
        root = None if given.keep is None else given.keep / name
        try:
            if root is not None:
                root.mkdir(parents=True)
            found = trip(Library.of(name, given.cache), seed, given.count, root=root, tell=_note)
        except (PeerFailed, WorkerFailed, OSError) as error:
            _note(f"error: {error}")
            return 2
        sys.stdout.write("\n".join(found.lines()) + "\n")
        good = good and found.good
    return 0 if good else 1


def _note(line: str) -> None:
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
