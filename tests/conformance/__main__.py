"""`python -m tests.conformance DIR`: run the cases of a folder; exit code 0 if none failed, 1 if any did, 2 for usage."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.conformance.mixed import NothingToMix
from tests.conformance.run import Options, UnknownCases, run


def parser() -> argparse.ArgumentParser:
    """The command line."""
    args = argparse.ArgumentParser(prog="python -m tests.conformance", description=__doc__)
    args.add_argument("folder", metavar="DIR", type=Path, help="holds backbones/ adapterhub/ peft/, or open/ with them")
    args.add_argument("--only", metavar="LIST", type=Path, help="file of library/case lines")
    args.add_argument("--filter", metavar="TEXT", default="", help="only ids that hold this text")
    args.add_argument("--mixed", metavar="N", type=int, default=0, help="random mixed batches after the single runs")
    args.add_argument("--seed", metavar="S", type=int, default=0, help="seed of the batches")
    args.add_argument("--json", metavar="FILE", type=Path, help="write all outcomes here")
    args.add_argument("--minilm", metavar="FOLDER", type=Path, help="all-MiniLM-L6-v2, if not the installed package's")
    args.add_argument(
        "--strict", action="store_true", help="the stored tolerance alone, no allowance for float32 rounding"
    )
    return args


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, print what did not pass and the summary, and return the exit code."""
    given = parser().parse_args(arguments)
    try:
        only = None if given.only is None else read_list(given.only)
        options = Options(given.folder, only, given.filter, given.mixed, given.seed, given.minilm, given.strict)
        report = run(options, tell=_note)
    except (OSError, UnknownCases, NothingToMix) as error:
        _note(f"error: {error}")
        return 2
    if given.json:
        report.write(given.json)
    sys.stdout.write("\n".join(report.lines()) + "\n")
    return 0 if report.good else 1


def read_list(path: Path) -> tuple[str, ...]:
    """Ids of a list file: one `library/case` per line; blank lines and `#` comments are left out."""
    lines = (line.split("#", 1)[0].strip() for line in path.read_text().splitlines())
    return tuple(line for line in lines if line)


def _note(line: str) -> None:
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
