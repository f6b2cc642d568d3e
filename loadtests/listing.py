"""`python -m loadtests list`: every scenario with one line, or every figure that a threshold may be about."""

import argparse
from collections.abc import Sequence

from loadtests.scenarios.figures import FIGURES
from loadtests.scenarios.reading import find, names, read


def main(arguments: Sequence[str]) -> int:
    """Print the list; 0."""
    args = argparse.ArgumentParser(prog="python -m loadtests list", description=__doc__)
    args.add_argument("--figures", action="store_true", help="the figures instead of the scenarios")
    if args.parse_args(arguments).figures:
        told = {name: f"{figure.about}{f' [{figure.unit}]' if figure.unit else ''}" for name, figure in FIGURES.items()}
    else:
        told = {name: read(find(name)).about for name in names()}
    width = max(map(len, told)) + 2
    for name, about in told.items():
        print(f"{name:<{width}}{about}")
    return 0
