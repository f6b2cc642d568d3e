"""`python -m loadtests run SCENARIO --url URL`, `list`, `compare A B`, `prove NAME`.

Exit codes: 0 all answers right (or the promise kept), 1 wrong answers (or broken), 2 usage, 3 errors above
`--max-errors`, 4 the run could not start.
"""

import argparse
import asyncio
import json
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType

from loadtests.compare import compare, read_report
from loadtests.proofs.given import Given, hardware
from loadtests.proofs.stage import StageFailed
from loadtests.proofs.table import PROOFS
from loadtests.report import Report
from loadtests.run import Settings, run
from loadtests.scenarios import SCENARIOS
from loadtests.service import ServiceFailed
from loadtests.trace import TraceSpec
from serving.errors import ServiceError


def parser() -> argparse.ArgumentParser:
    """The command line."""
    args = argparse.ArgumentParser(prog="python -m loadtests", description=__doc__)
    verbs = args.add_subparsers(dest="verb", required=True)
    one = verbs.add_parser("run", help="drive a service and check every answer")
    one.add_argument("scenario", choices=sorted(SCENARIOS))
    one.add_argument("--url", required=True)
    one.add_argument("--key-file", type=Path, help="file with a key of scopes publish and predict")
    one.add_argument("--adapters", type=int, metavar="N")
    length = one.add_mutually_exclusive_group()
    length.add_argument("--requests", type=int, metavar="N")
    length.add_argument("--duration", type=float, metavar="SECONDS")
    one.add_argument("--rate", type=float, help="requests per second, a Poisson process")
    one.add_argument("--zipf-s", type=float, metavar="S", help="weight of rank k is 1 / k^S")
    one.add_argument("--texts", type=int, default=2, metavar="N", help="different texts per adapter")
    one.add_argument("--methods", default="", help="comma-separated; default all that are known")
    one.add_argument("--seed", type=int, default=0)
    one.add_argument("--tolerance", type=float, default=1e-4, help="absolute, on raw logits")
    one.add_argument("--timeout", type=float, default=60.0, metavar="SECONDS")
    one.add_argument("--max-errors", type=float, default=0.0, metavar="SHARE", help="share of requests that may fail")
    one.add_argument("--out", type=Path, help="folder for report.json, samples.jsonl, report.png")
    verbs.add_parser("list", help="the scenarios and their defaults")
    two = verbs.add_parser("compare", help="two reports side by side")
    two.add_argument("a", type=Path)
    two.add_argument("b", type=Path)
    proof = verbs.add_parser("prove", help="break a service of its own, and see that a promise is kept")
    proof.add_argument("proof", choices=sorted(PROOFS), help="; ".join(f"{n}: {p.about}" for n, p in PROOFS.items()))
    proof.add_argument("--quick", action="store_true", help="the same checks on less")
    proof.add_argument("--seed", type=int, default=0)
    proof.add_argument("--json", type=Path, metavar="FILE", help="write the evidence there as well")
    proof.add_argument("--keep", type=Path, metavar="DIR", help="a new folder for everything, which is left as it is")
    return args


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line says, and return the exit code."""
    given = parser().parse_args(arguments)
    if given.verb == "list":
        for name, scenario in SCENARIOS.items():
            print(f"{name:<10}{scenario.about}")
            print(f"{'':<10}{scenario.adapters} adapters, {scenario.requests} requests at {scenario.rate:g}/s")
        return 0
    if given.verb == "compare":
        print("\n".join(compare(read_report(given.a), read_report(given.b))))
        return 0
    if given.verb == "prove":
        return prove(given.proof, quick=given.quick, seed=given.seed, written=given.json, keep=given.keep)
    key = given.key_file.read_text().strip() if given.key_file else None
    try:
        settings = settings_of(given)
        report = asyncio.run(run(settings, key, tell=lambda line: print(line, file=sys.stderr)))
    except (ServiceFailed, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 4
    except ExceptionGroup as group:
        print(f"error: {'; '.join(str(error) for error in group.exceptions)}", file=sys.stderr)
        return 4
    print("\n".join([*report.lines(), f"written to {settings.out}"]))
    return exit_code(report, given.max_errors)


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


def settings_of(given: argparse.Namespace) -> Settings:
    """Defaults of the scenario, overridden by the command line."""
    scenario = SCENARIOS[given.scenario]
    requests = given.requests if given.requests is not None or given.duration is not None else scenario.requests
    spec = TraceSpec(
        adapters=scenario.adapters if given.adapters is None else given.adapters,
        rate=scenario.rate if given.rate is None else given.rate,
        requests=requests,
        duration=given.duration,
        zipf_s=scenario.zipf_s if given.zipf_s is None else given.zipf_s,
        texts_per_adapter=given.texts,
        seed=given.seed,
    )
    out = given.out or Path("data") / "loadtests" / f"{given.scenario}-{time.strftime('%Y%m%d-%H%M%S')}"
    methods = tuple(method for method in given.methods.split(",") if method)
    return Settings(given.scenario, given.url, spec, out, methods, given.tolerance, given.timeout)


def exit_code(report: Report, max_errors: float) -> int:
    """1 for wrong answers, 3 for too many errors, else 0."""
    if report.wrong:
        return 1
    return 3 if sum(report.errors.values()) > max_errors * report.requests else 0


if __name__ == "__main__":
    sys.exit(main())
