"""No acknowledged version is lost, torn or doubled: `kill -9` of a publishing process, and of the whole service.

First a publishing process is killed over and over, at random moments of what its four clients do; then the service, under
four HTTP clients. Clients ask again for what was not acknowledged. Once everything is acknowledged the service is killed
once more, so that the last acknowledgement has outlived a kill as the first has. In the end everything that the registry
holds is fetched and hashed, and asked for a prediction that no other package could have given.
"""

import asyncio
import hashlib
import multiprocessing
import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import aiohttp

from adapters.architectures.profile import read_profile
from loadtests.proofs import publishing_process
from loadtests.proofs.backbones import TEXTS, tiny
from loadtests.proofs.calls import call, predict, publish
from loadtests.proofs.checker_socket import CheckerSocket
from loadtests.proofs.evidence import Evidence, Figure, spread
from loadtests.proofs.fingerprints import METHODS, Book, Forge, Identity
from loadtests.proofs.given import Given
from loadtests.proofs.judging import fault_of
from loadtests.proofs.ledger import Ack, Ledger, Stored, judge, starts
from loadtests.proofs.publishing_process import TENANT, Work, name_of, once_of, package_at
from loadtests.proofs.stage import Stage, StageFailed, staged
from serving.registry.blobs.local import LocalBlobs
from serving.registry.catalog import Catalog
from serving.registry.checker import Checker
from serving.registry.database import Database

CLIENTS = 4
NAMES = 40
ACKS_A_LIFE = 11  # on average, before the kill comes
READERS = 8
LOOK_S = 0.002  # how often the ledger is looked at
RETRY_S = 0.05
STARTS = 3  # of the service after a kill, before that is given up
LATE_S = {"process": 0.03, "service": 0.2}  # the kill comes up to so much later than the last acknowledgement
AGAIN = (0, 500, 502, 503, 504)  # what a client of a service that was killed may see; 0 is no answer
_CONTEXT = multiprocessing.get_context("forkserver")


@dataclass(frozen=True)
class Size:
    """How often is killed, and how much has to be acknowledged at least."""

    process_kills: int
    service_kills: int
    acknowledged: int

    @property
    def items(self) -> int:
        """Packages of each client: more than are needed, as some clients are quicker than others."""
        lives = self.process_kills + self.service_kills
        return 2 * max(lives * ACKS_A_LIFE, self.acknowledged) // CLIENTS + 16


WHOLE, QUICK = Size(500, 20, 5000), Size(25, 2, 250)


@dataclass
class Kills:
    """What the run saw."""

    process: int = 0
    service: int = 0
    failed_starts: int = 0
    outlived: int = 0  # acknowledgements before the last kill
    refused: Counter[str] = field(default_factory=Counter)  # answers to a publish that no client should get
    waited: Counter[str] = field(default_factory=Counter)  # why a client asked again


@dataclass
class Served:
    """What was found when everything was fetched and asked in the end."""

    torn: int = 0  # versions whose bytes are not there, or are others
    faults: Counter[str] = field(default_factory=Counter)  # why a version did not answer as itself
    seconds: list[float] = field(default_factory=list)
    exit_code: int = -1
    strays: tuple[str, ...] = ()  # files that nothing leads to, after a sweep


def run(given: Given) -> Evidence:
    """Kill, start again, and look at everything."""
    size = given.sized(WHOLE, QUICK)
    dice, kills = random.Random(given.seed), Kills()
    backbone = tiny(given.folder / "backbone", given.seed)
    packages, data = given.folder / "packages", given.folder / "data"
    packages.mkdir()
    book, digests = _forged(Forge(backbone, TEXTS[:1], given.seed), packages, size.items)
    work = Work(data, packages, given.folder / "checker", given.folder / "ledger", 0, (0,) * CLIENTS, size.items, NAMES)
    ledger = Ledger(work.ledger)
    asyncio.run(_kill_processes(backbone, work, ledger, kills, size, dice))
    stage = Stage(backbone, data, options=("--device-cache", "4MiB"))
    with staged(stage):
        asyncio.run(_kill_services(stage, work, ledger, kills, size, dice))
        kill_once_more(stage, ledger, kills)
        acks = ledger.read()
        stored, served = asyncio.run(_look(stage, book, digests))
        served.exit_code = stage.stop()
    blobs = LocalBlobs(data / "blobs")
    blobs.sweep()
    served.strays = blobs.check()
    return evidence(given, size, kills, acks, stored, served)


def _forged(forge: Forge, packages: Path, items: int) -> tuple[Book, dict[str, Identity]]:
    """Every package as a file; who answers how; and who is in which bytes. A version here is an item of a client."""
    book, digests = Book(), dict[str, Identity]()
    for client in range(CLIENTS):
        for item in range(items):
            made = forge.make(f"killed-{client}-{item}", METHODS[item % len(METHODS)])
            package_at(packages, client, item).write_bytes(made.data)
            digests[made.digest] = Identity(TENANT, str(client), item)
            book.enter(digests[made.digest], made.logits)
    return book, digests


async def _kill_processes(
    backbone: Path, work: Work, ledger: Ledger, kills: Kills, size: Size, dice: random.Random
) -> None:
    profile = read_profile(backbone)
    database = Database.open(f"sqlite:///{work.data / 'registry.sqlite'}")
    Catalog(database).bind(profile)
    database.close()
    checker = Checker(profile, backbone)
    socket = CheckerSocket(checker, work.socket)
    _CONTEXT.set_forkserver_preload([publishing_process.__name__])
    try:
        await checker.start()
        for life in range(size.process_kills):
            begun = replace(work, life=life, starts=starts(ledger.read(), CLIENTS))
            process = _CONTEXT.Process(target=publishing_process.live, args=(begun,))
            process.start()
            await _reaches(ledger, len(ledger) + dice.randint(1, 2 * ACKS_A_LIFE - 1), process.is_alive)
            await asyncio.sleep(dice.uniform(0, LATE_S["process"]))
            process.kill()
            await asyncio.to_thread(process.join)
            kills.process += process.exitcode == -9
            process.close()
    finally:
        socket.close()
        await checker.stop()


async def _kill_services(
    stage: Stage, work: Work, ledger: Ledger, kills: Kills, size: Size, dice: random.Random
) -> None:
    """Under four clients that ask again and again, whoever answers."""
    enough, last = asyncio.Event(), replace(work, life=size.process_kills)
    async with stage.session(timeout_s=10.0) as session, asyncio.TaskGroup() as clients:
        for client, start in enumerate(starts(ledger.read(), CLIENTS)):
            clients.create_task(_publish_all(session, last, ledger, kills, (client, start), enough))
        for _ in range(size.service_kills):
            await _reaches(ledger, len(ledger) + dice.randint(1, 4 * ACKS_A_LIFE))
            await asyncio.sleep(dice.uniform(0, LATE_S["service"]))
            await asyncio.to_thread(stage.kill)
            kills.service += 1
            kills.failed_starts += await asyncio.to_thread(restart, stage)
        await _reaches(ledger, max(len(ledger) + ACKS_A_LIFE, size.acknowledged))
        enough.set()


def kill_once_more(stage: Stage, ledger: Ledger, kills: Kills) -> None:
    """Nobody publishes any more: what was acknowledged since the last kill has to outlive one, too."""
    kills.outlived = len(ledger)
    stage.kill()
    kills.service += 1
    kills.failed_starts += restart(stage)


def restart(stage: Stage) -> int:
    """Start again as a supervisor does, once more where it fails; how many starts failed. Raises `StageFailed`."""
    for failed in range(STARTS - 1):
        with suppress(StageFailed):  # on a machine that is too busy, Ray gives up waiting for its own processes
            stage.start()
            return failed
    stage.start()
    return STARTS - 1


async def _publish_all(
    session: aiohttp.ClientSession, work: Work, ledger: Ledger, kills: Kills, at: tuple[int, int], enough: asyncio.Event
) -> None:
    client, item = at
    while not enough.is_set() and item < work.items:
        name, key = name_of(client, item, work.names), once_of(client, item)
        data = await asyncio.to_thread(package_at(work.packages, client, item).read_bytes)
        once = None if key is None else f"http-{key}"
        while not (told := await publish(session, name, data, promote=item % 3 == 0, once=once)).ok:
            (kills.waited if told.status in AGAIN else kills.refused)[told.why] += 1
            await asyncio.sleep(RETRY_S)
        created = told.status == 201 and "idempotent-replayed" not in told.headers
        version, digest = int(told.body["version"]), str(told.body["digest"])
        ledger.append(Ack(client, item, name, version, digest, created, work.life))
        item += 1


async def _reaches(ledger: Ledger, lines: int, alive: Callable[[], bool] = lambda: True) -> None:
    """Wait for so many lines, or for the end of who writes them."""
    while len(ledger) < lines and alive():  # noqa: ASYNC110 - a file that other processes write
        await asyncio.sleep(LOOK_S)


async def _look(stage: Stage, book: Book, digests: Mapping[str, Identity]) -> tuple[Stored, Served]:
    """What the registry tells; every stored version fetched, and asked for a prediction."""
    async with stage.session() as session:
        names = [name_of(0, item, NAMES) for item in range(NAMES)]
        shown = [(name, await call(session, "GET", f"/v1/adapters/{name}")) for name in names]
        stored = {
            name: {int(version["version"]): str(version["digest"]) for version in told.body["versions"]}
            for name, told in shown
            if told.ok
        }
        served = Served()
        left = iter([(name, *version) for name, held in stored.items() for version in held.items()])

        async def reader() -> None:
            for name, version, digest in left:
                async with session.get(f"/v1/adapters/{name}@{version}:package") as answer:
                    data = await answer.read()
                served.torn += answer.status != 200 or f"sha256:{hashlib.sha256(data).hexdigest()}" != digest
                told = await predict(session, f"{name}@{version}", TEXTS[:1])
                served.seconds.append(told.seconds)
                if fault := fault_of(told, (name, version), book, digests.get(digest)):
                    served.faults[fault] += 1

        await asyncio.gather(*(reader() for _ in range(READERS)))
    return stored, served


def evidence(given: Given, size: Size, kills: Kills, acks: Sequence[Ack], stored: Stored, served: Served) -> Evidence:
    """The figures."""
    verdict = judge(acks, stored)
    figures = (
        Figure("kills of a publishing process", kills.process, ">=", size.process_kills, "kills"),
        Figure("kills of the whole service", kills.service, ">=", size.service_kills, "kills"),
        Figure("acknowledged", len(acks), ">=", size.acknowledged, "versions"),
        Figure("acknowledged after the last kill", len(acks) - kills.outlived, "=", 0, "versions"),
        Figure("lost", verdict.lost, "=", 0, "versions"),
        Figure("torn", served.torn + len(served.strays), "=", 0, "versions"),
        Figure("duplicate", verdict.doubled + verdict.numbered_twice, "=", 0, "versions"),
        Figure("stored without being acknowledged in the end", verdict.unasked, "=", 0, "versions"),
        Figure("not served after the restart", served.faults.total(), "=", 0, "versions"),
        Figure("refused publishes", kills.refused.total(), "=", 0, "requests"),
        Figure("exit code of the last stop", served.exit_code, "=", 0, "code"),
    )
    again = [ack for ack in acks if not ack.created]
    seen = {
        "clients": CLIENTS,
        "names": len(stored),
        "stored": sum(map(len, stored.values())),
        "found done by an earlier life": len(again),
        "lives with acknowledgements": len({ack.life for ack in acks}),
        "asked again because of": dict(kills.waited),
        "refused": dict(kills.refused),
        "not served": dict(served.faults),
        "strays": list(served.strays),
        "numbers left out": verdict.gaps,
        "starts of the service that failed": kills.failed_starts,
        "prediction of a version, seconds": spread(served.seconds),
    }
    return Evidence("publish-kills", given.seed, figures, seen)
