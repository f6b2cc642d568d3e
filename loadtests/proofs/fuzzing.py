"""schemathesis over `/openapi.json` of a running service: no request that it thinks of is answered with a server error.

It runs as a process of its own (extra `proofs`), reads the schema from the service, and drives every operation through
its phases: examples, edge values, random data good and bad, and chains of calls. Its verdict is not taken on trust: every
exchange is in its report, and the statuses are counted from there. What ends keys is fuzzed apart, where no other call
tells the id of the key that it is done with.
"""

import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2

from loadtests.proofs.backbones import tiny
from loadtests.proofs.callers import TENANT_SCOPES, make_keys
from loadtests.proofs.evidence import Evidence, Figure
from loadtests.proofs.given import Given
from loadtests.proofs.stage import Stage, StageFailed, staged

EXAMPLES = (25, 3)  # of each operation and phase: the whole run, a quick one
TIME_S = (600, 120)  # of fuzzing; what is found out by then is told
PHASES = ("examples,coverage,fuzzing,stateful", "examples,coverage,fuzzing")
SUICIDAL = ("revoke_key", "rotate_key")
ORDERED = frozenset({"deadline_exceeded"})  # codes of a 504 that the request itself asked for, by a deadline of 1 ms


@dataclass(frozen=True)
class Exchange:
    """One request of the report and its answer."""

    method: str
    path: str
    status: int
    code: str


def run(given: Given) -> Evidence:
    """Fuzz a service with one engine; raises `StageFailed` where schemathesis is not installed."""
    command = found()
    backbone, data = tiny(given.folder / "backbone", given.seed), given.folder / "data"
    keys = make_keys(data, dict.fromkeys(("fuzzed", "locksmith"), (*TENANT_SCOPES, "admin")))
    with staged(Stage(backbone, data, key=keys["fuzzed"])) as stage:
        before, seen = stage.pids("ServeReplica"), list[Exchange]()
        told = httpx2.get(f"{stage.url}/openapi.json", timeout=30).json()
        for tenant, how in (("fuzzed", "exclude"), ("locksmith", "include")):
            seen += exchanges(_fuzz(command, stage, given, keys[tenant], how))
        statuses = [_status(stage, key) for key in keys.values()]
        gone = len(set(before) - set(stage.pids("ServeReplica")))
    return _evidence(given, seen, sum(map(len, told["paths"].values())), statuses, gone)


def _status(stage: Stage, key: str) -> int:
    return httpx2.get(f"{stage.url}/v1/limits", headers={"Authorization": f"Bearer {key}"}, timeout=30).status_code


def found() -> str:
    """The command, beside this Python or on the path."""
    beside = Path(sys.executable).with_name("schemathesis")
    command = str(beside) if beside.is_file() else shutil.which("schemathesis")
    if command is None:
        raise StageFailed("schemathesis is not installed: pip install 'chorus[proofs]'")
    return command


def _fuzz(command: str, stage: Stage, given: Given, key: str, how: str) -> Mapping[str, Any]:
    har, log = given.folder / f"{how}.har", given.folder / f"{how}.log"
    seconds = given.sized(*TIME_S)
    words = [command, "run", f"{stage.url}/openapi.json", "--header", f"Authorization: Bearer {key}"]
    words += [word for operation in SUICIDAL for word in (f"--{how}-operation-id", operation)]
    words += ["--checks", "not_a_server_error", "--continue-on-failure", "--seed", str(given.seed), "--no-shrink"]
    words += ["--max-examples", str(given.sized(*EXAMPLES)), "--phases", given.sized(*PHASES), "--workers", "2"]
    words += ["--request-timeout", "60", "--report", "har", "--report-har-path", str(har), "--no-color"]
    words += ["--suppress-health-check", "all", "--max-time", str(seconds if how == "exclude" else seconds // 10)]
    environment = {**os.environ, "PYTHONPATH": ""}
    with log.open("w") as file:
        subprocess.run(  # noqa: S603 - ours
            words, cwd=given.folder, env=environment, stdout=file, stderr=file, timeout=2 * seconds, check=False
        )
    if not har.is_file():
        raise StageFailed(f"schemathesis told nothing: {log.read_text()[-2000:]}")
    report: Mapping[str, Any] = json.loads(har.read_text())
    return report


def exchanges(report: Mapping[str, Any]) -> Iterator[Exchange]:
    """Every exchange of a HAR report; status 0 is no answer."""
    for entry in report["log"]["entries"]:
        request, response = entry["request"], entry["response"]
        text = str(response.get("content", {}).get("text", ""))
        yield Exchange(request["method"], urlsplit(request["url"]).path, int(response["status"]), _code(text))


def faulty(exchange: Exchange) -> bool:
    """Whether it is a server error that nobody asked for, or no answer."""
    return exchange.status == 0 or (exchange.status >= 500 and exchange.code not in ORDERED)


def _code(text: str) -> str:
    try:
        value = json.loads(text)
    except ValueError:
        return ""
    return str(value.get("code", "")) if isinstance(value, dict) else ""


def _evidence(given: Given, seen: list[Exchange], operations: int, statuses: list[int], gone: int) -> Evidence:
    errors = [exchange for exchange in seen if faulty(exchange)]
    shut = sum(exchange.status == 401 for exchange in seen)  # schemathesis leaves the key out now and then
    figures = (
        Figure("requests", len(seen), ">=", operations * given.sized(*EXAMPLES), "requests"),
        Figure("server errors", len(errors), "=", 0, "answers"),
        Figure("replicas that were restarted", gone, "=", 0, "processes"),
        Figure("keys that were good to the end", sum(status == 200 for status in statuses), "=", 2, "keys"),
        Figure("share of requests without a key", shut / len(seen), "<=", 0.1, "ratio"),
    )
    told = {
        "operations": operations,
        "statuses": dict(sorted(Counter(exchange.status for exchange in seen).items())),
        "deadlines that were asked for": sum(exchange.code in ORDERED for exchange in seen),
        "errors": Counter(f"{e.method} {e.path[:60]}: {e.status} {e.code}" for e in errors).most_common(20),
    }
    return Evidence("fuzzing", given.seed, figures, told)
