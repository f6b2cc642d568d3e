"""`python -m loadtests plot DIR`: draw the pictures and the page of a run again, from its `run.json`."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from loadtests.pages.page import draw_all
from loadtests.results.folder import NoRun, read


def main(arguments: Sequence[str]) -> int:
    """Draw; 0, or 2 where there is no run."""
    args = argparse.ArgumentParser(prog="python -m loadtests plot", description=__doc__)
    args.add_argument("folder", type=Path, help="what `run` wrote")
    args.add_argument("--out", type=Path, help="another folder for what is drawn")
    given = args.parse_args(arguments)
    try:
        run = read(given.folder)
    except NoRun as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    out = given.out or (given.folder if given.folder.is_dir() else given.folder.parent)
    out.mkdir(parents=True, exist_ok=True)
    for path in draw_all(run, out):
        print(path)
    return 0
