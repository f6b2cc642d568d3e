"""`python -m loadtests run|compare|plot|list|peers|prove`: each verb is a module with a command line of its own."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module


@dataclass(frozen=True)
class Verb:
    """One word of the command line, and the module whose `main` does it."""

    module: str
    about: str


VERBS: Mapping[str, Verb] = {
    "run": Verb("loadtests.run", "drive a service with a scenario, check every answer, judge, report"),
    "compare": Verb("loadtests.compare", "two runs, or two steps of one, side by side"),
    "plot": Verb("loadtests.plot", "draw the pictures and the page of a run again"),
    "list": Verb("loadtests.listing", "the scenarios, or the figures that thresholds may be about"),
    "peers": Verb("loadtests.peers.__main__", "the same work through other libraries, in one run"),
    "prove": Verb("loadtests.prove", "break a promise of the service, and see that it is kept"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Hand on to the verb; 2 where there is none such."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words[:1] in (["-h"], ["--help"]):
        print(usage())
        return 0
    if not words or words[0] not in VERBS:
        print(usage(), file=sys.stderr)
        return 2
    code: int = import_module(VERBS[words[0]].module).main(words[1:])  # late: some bring torch, `list` must not
    return code


def usage() -> str:
    """The verbs, one line each."""
    lines = "\n".join(f"  {name:<10}{verb.about}" for name, verb in VERBS.items())
    return f"usage: python -m loadtests VERB ...\n\n{lines}\n\n`python -m loadtests VERB --help` tells more."


if __name__ == "__main__":
    sys.exit(main())
