"""Hostile packages: every one is refused with a reason, and nothing of the service notices.

Sound packages are broken in every way that `hostile_packages` knows, and sent to every door for packages; more are sound,
and sent under names or with headers that are none. Meanwhile somebody predicts. Every replica must be the same process in
the end, and so the one that reads uploads, unless it said itself that it makes way for a fresh one; nothing may be stored,
and the answers be right.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
from yarl import URL

from adapters.formats import native
from loadtests.proofs.backbones import TEXTS, tiny
from loadtests.proofs.calls import NATIVE, call, predict, publish
from loadtests.proofs.evidence import Evidence, Figure, spread
from loadtests.proofs.fingerprints import Book, Forge, Identity
from loadtests.proofs.given import Given
from loadtests.proofs.hostile_packages import KINDS, hostile
from loadtests.proofs.judging import fault_of
from loadtests.proofs.stage import Stage, staged
from loadtests.proofs.steady import Steady, faults
from loadtests.synthetic import CONFIGS, make_package
from serving.registry.blobs.local import LocalBlobs
from serving.registry.check_worker import refusal_of

WHOLE, QUICK = 500, 54  # broken packages: of every kind some
UNBROKEN = 0.1  # on top of them: under a name or with a header that is none
ATTACKERS = 4
RATE = 20.0  # predictions a second meanwhile
NAME = "innocent"
DOUBT, RENEWED = (
    "check_failed",
    str(refusal_of(MemoryError())["message"]),
)  # no refusal; one after which it ends as planned
REPLICAS = ("Engine", "Gateway", "Checker", "Proxy", "Controller")  # what the titles of Ray's processes hold
DOORS = (
    *5 * ("PUT /v1/adapters/{}",),
    *2 * ("POST /v1/adapters/{}:validate",),
    "PUT /v1/token-embeddings/{}",
    "POST /v1/token-embeddings/{}:validate",
)
NAMES = (
    "..%2f..%2fetc%2fpasswd",
    "%2e%2e%2f%2e%2e%2fup",
    "a%00b",
    "UPPER",
    "base",
    "a" * 64,
    "-x",
    "x/y/z",
    "x/versions",
    "%E2%80%AEevil",
    "x@1",
    "x%0d%0aSet-Cookie:%20a=b",
    "public/mine",
    "%",
    "x%20y",
    "~",
)
HEADERS: Sequence[Mapping[str, str]] = (
    {"Content-Type": "application/json"},
    {"Content-Type": "multipart/form-data; boundary=x"},
    {"Content-Type": "application/x-pickle"},
    {"Content-Encoding": "gzip"},
    {"Idempotency-Key": "x" * 129},
)


@dataclass(frozen=True, eq=False)
class Attack:
    """One upload."""

    kind: str
    method: str
    path: str  # as it is written on the wire
    body: bytes
    headers: Mapping[str, str]


@dataclass
class Met:
    """What became of the attacks."""

    refused: Counter[str] = field(default_factory=Counter)  # by kind
    codes: Counter[str] = field(default_factory=Counter)
    taken: list[str] = field(default_factory=list)  # any other answer than a refusal with a reason
    renewed: int = 0  # packages after which the process that read them made way, as it said
    fatal: list[str] = field(default_factory=list)  # those on which it died, failed or hung
    seconds: list[float] = field(default_factory=list)


def attacks(sound: Sequence[bytes], count: int, seed: int) -> list[Attack]:
    """So many broken packages, and on top a tenth as many sound ones under a name or with a header that is none."""
    dice, made = random.Random(seed), []
    for number, (kind, body) in enumerate(hostile(sound, count, seed)):
        method, _, path = dice.choice(DOORS).partition(" ")
        made.append(Attack(kind, method, path.format(f"evil-{number}"), body, NATIVE))
    for number in range(int(UNBROKEN * count)):
        body = dice.choice(sound)
        if number % 2:
            headers = {**NATIVE, **dice.choice(HEADERS)}
            made.append(Attack("header", "PUT", f"/v1/adapters/odd-{number}", body, headers))
        else:
            made.append(Attack("name", "PUT", f"/v1/adapters/{dice.choice(NAMES)}", body, NATIVE))
    dice.shuffle(made)
    return made


def run(given: Given) -> Evidence:
    """Attack, and look what is left."""
    backbone, data = tiny(given.folder / "backbone", given.seed), given.folder / "data"
    forge, book = Forge(backbone, TEXTS, given.seed), Book()
    innocent = forge.make(NAME)
    book.enter(Identity("", NAME, 1), innocent.logits)
    sound = [native.write(make_package(forge.profile, method, "sound", given.seed)) for method in CONFIGS]
    planned = attacks(sound, given.sized(WHOLE, QUICK), given.seed)
    with staged(Stage(backbone, data)) as stage:
        seen = asyncio.run(_attacked(stage, planned, innocent.data, book))
        exit_code = stage.stop()
    return _evidence(given, Counter(attack.kind for attack in planned), seen, exit_code, data)


@dataclass
class Seen:
    """Everything that was seen of one run."""

    met: Met
    before: dict[str, list[int]]
    after: dict[str, list[int]]
    checkers: int  # processes that read uploads, beyond the first two
    meanwhile: Counter[str]
    asked: list[float]
    stored: list[str]


async def _attacked(stage: Stage, planned: Sequence[Attack], innocent: bytes, book: Book) -> Seen:
    right, met, checkers = Identity("", NAME, 1), Met(), set[int]()
    async with stage.session() as session:
        await publish(session, NAME, innocent)
        await call(session, "POST", f"/v1/adapters/{NAME}:validate", data=innocent)  # starts what tries packages, too

        async def ask(_number: int) -> str:
            return fault_of(await predict(session, NAME, TEXTS), (NAME, 1), book, right, range(len(TEXTS)))

        steady, before = Steady(ask, RATE), _replicas(stage)
        first = set(_children(before["Checker"]))  # one that checks packages, one that tries them
        steady.start()
        left = iter(planned)

        async def attacker() -> None:
            for attack in left:
                await _send(session, attack, met)
                checkers.update(_children(before["Checker"]))

        await asyncio.gather(*(attacker() for _ in range(ATTACKERS)))
        await steady.stop()
        stored = [
            str(item["name"])
            for root in ("/v1/adapters", "/v1/token-embeddings")
            for item in (await call(session, "GET", root)).body["items"]
        ]
        answers = [sample.seconds for sample in steady.samples]
        return Seen(met, before, _replicas(stage), len(checkers - first), faults(steady.samples), answers, stored)


def _replicas(stage: Stage) -> dict[str, list[int]]:
    return {title: stage.pids(title) for title in REPLICAS}


def _children(pids: Sequence[int]) -> Iterator[int]:
    """Processes that these started."""
    for pid in pids:
        for tasks in Path(f"/proc/{pid}/task").glob("*/children"):
            yield from map(int, tasks.read_text().split())


async def _send(session: aiohttp.ClientSession, attack: Attack, met: Met) -> None:
    """One attack; the session's own URL rules would mend some of the paths."""
    url = URL(f"{session._base_url}".rstrip("/") + attack.path, encoded=True)  # noqa: SLF001 - there is no other way to it
    told = await call(session, attack.method, url, data=attack.body, headers=attack.headers)
    met.seconds.append(told.seconds)
    met.codes[told.why] += 1
    if told.body.get("code") == DOUBT:
        planned = told.body.get("detail") == RENEWED
        met.renewed += planned
        met.fatal += [] if planned else [f"{attack.kind}: {told.body.get('detail')}"]
    if refused_with_reason(told.status, told.body):
        met.refused[attack.kind] += 1
    else:
        met.taken.append(f"{attack.kind}: {attack.method} {attack.path}: {told.why} {str(dict(told.body))[:200]}")


def refused_with_reason(status: int, body: Mapping[str, object]) -> bool:
    """Whether an answer is a 4xx that says why."""
    return 400 <= status < 500 and bool(body.get("code")) and bool(body.get("detail"))


def _evidence(given: Given, planned: Counter[str], seen: Seen, exit_code: int, data: Path) -> Evidence:
    blobs = LocalBlobs(data / "blobs")
    blobs.sweep()
    strays = blobs.check()
    strangers = [name for name in seen.stored if name not in (NAME, "default")]
    gone = sum(len(set(pids) - set(seen.after[title])) for title, pids in seen.before.items())
    broken, unbroken = sum(planned[kind] for kind in KINDS), planned["name"] + planned["header"]
    wanted = given.sized(WHOLE, QUICK)
    figures = (
        Figure("broken packages", broken, ">=", wanted, "packages"),
        Figure(
            "sound ones under a name or with a header that is none", unbroken, ">=", int(UNBROKEN * wanted), "packages"
        ),
        Figure("refused with a 4xx and a reason", seen.met.refused.total(), "=", planned.total(), "packages"),
        Figure("died, failed or hung of a package: what reads them", len(seen.met.fatal), "=", 0, "packages"),
        Figure(
            "restarts of what reads packages, unplanned", max(0, seen.checkers - seen.met.renewed), "=", 0, "processes"
        ),
        Figure("replicas that were restarted", gone, "=", 0, "processes"),
        Figure("replicas that were looked at", sum(map(len, seen.before.values())), ">=", 3, "processes"),
        Figure("failed or wrong predictions meanwhile", seen.meanwhile.total(), "=", 0, "answers"),
        Figure("names that an attack made", len(strangers), "=", 0, "names"),
        Figure("files that nothing leads to", len(strays), "=", 0, "files"),
        Figure("exit code of the stop", exit_code, "=", 0, "code"),
    )
    told = {
        "refused by kind": dict(sorted(seen.met.refused.items())),
        "answers": dict(seen.met.codes.most_common()),
        "not refused": seen.met.taken[:20],
        "a refusal, seconds": spread(seen.met.seconds),
        "replicas": {title: len(pids) for title, pids in seen.before.items()},
        "what reads packages, renewed as planned": seen.met.renewed,
        "what reads packages, processes beyond the first two": seen.checkers,
        "died, failed or hung": seen.met.fatal[:20],
        "a prediction meanwhile, seconds": spread(seen.asked),
        "faults meanwhile": dict(seen.meanwhile),
    }
    return Evidence("hostile", given.seed, figures, told)
