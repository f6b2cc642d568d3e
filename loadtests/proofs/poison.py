"""One poisonous text: whoever computes it dies, and it takes two engines with it at most, and nobody else's answer.

The service's own code is as it is. The fault is planted from outside, by a `sitecustomize` module on the path of its
processes: an engine that is handed the text's tokens ends on the spot, as it would by a bug in a kernel. Two clients send
the text again and again; others go on asking for other things: every second time for texts that are always the same, which
the service knows to be harmless, and every other time for texts that nobody has asked before, which it can not know.

An unknown row that was on board of two engines that died at once is refused, as `serving.dispatch` says. So many are borne
here as can be on board when an engine dies: at this rate, and some ten milliseconds for each, that is hardly ever one.
"""

import asyncio
import os
import random
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from loadtests.proofs.backbones import TEXTS, WORDS, tiny
from loadtests.proofs.calls import predict, publish
from loadtests.proofs.evidence import Evidence, Figure, spread
from loadtests.proofs.fingerprints import METHODS, Book, Forge, Identity
from loadtests.proofs.given import Given
from loadtests.proofs.judging import fault_of
from loadtests.proofs.stage import ROOT, Stage, StageFailed, staged
from loadtests.proofs.steady import Steady, faults

POISON = " ".join(WORDS[:11])  # no other text here has as many tokens
TOKENS = len(WORDS[:11]) + 2
ENGINES, ADAPTERS, GUILTY = 2, 6, 2
SENT = (8, 3)  # times that each of the guilty clients sends it
RATE = 15.0  # of everybody else together
AGAIN_S, RECOVERY_S, LOOK_S = 0.2, 300.0, 0.05
SLACK_S = 60.0  # of the others, once it is over
LENGTHS = range(4, 9)  # words of a text that is new, never those of the poison
ROWS = 2  # texts of a request whose texts are new
REFUSED, INNOCENT = "422 poisonous_request", "innocent, and refused"
BORNE = 1  # of the innocent with texts that are new; of the others none
PLANTED = f'''
import importlib.abc, importlib.machinery, os, sys

class Planter(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Has `serving.engine.engine` loaded as ever, and its engine die of a row of so many tokens."""

    def find_spec(self, name, path, target=None):
        if name != "serving.engine.engine":
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        self.loader, spec.loader = spec.loader, self
        return spec

    def create_module(self, spec):
        return self.loader.create_module(spec)

    def exec_module(self, module):
        self.loader.exec_module(module)
        submit = module.Engine.submit

        def fatal(engine, tickets, sink):
            if any(len(ticket.input_ids) == {TOKENS} for ticket in tickets):
                os.kill(os.getpid(), 9)
            return submit(engine, tickets, sink)

        module.Engine.submit = fatal

sys.meta_path.insert(0, Planter())
'''


@dataclass
class Seen:
    """Everything that was seen."""

    engines: set[int] = field(default_factory=set)  # process ids, those that took a lost one's place too
    guilty: Counter[str] = field(default_factory=Counter)
    waits: list[float] = field(default_factory=list)  # of the guilty
    steady: Steady | None = None


def run(given: Given) -> Evidence:
    """Plant the fault, and let both kinds of clients ask."""
    backbone, planted = tiny(given.folder / "backbone", given.seed), given.folder / "planted"
    planted.mkdir()
    (planted / "sitecustomize.py").write_text(PLANTED)
    forge, book, packages = Forge(backbone, (*TEXTS, *unknown(given.seed)), given.seed), Book(), {}
    for number in range(ADAPTERS):
        name = f"kept-{number}"
        made = forge.make(name, METHODS[number % len(METHODS)])
        book.enter(Identity("", name, 1), made.logits)
        packages[name] = made.data
    path = os.pathsep.join((str(planted), str(ROOT)))
    stage = Stage(backbone, given.folder / "data", engines=ENGINES, gateways=2, environment={"PYTHONPATH": path})
    with staged(stage):
        seen = asyncio.run(_poisoned(given, stage, packages, forge.texts, book))
        exit_code = stage.stop()
    return _evidence(given, seen, exit_code)


def unknown(seed: int) -> tuple[str, ...]:
    """Texts for all requests of a run that have new ones, no two of them alike."""
    dice, made = random.Random(seed), dict.fromkeys(TEXTS)
    wanted = len(TEXTS) + ROWS * int(RATE * (RECOVERY_S + SLACK_S) / 2)
    while len(made) < wanted:
        made[" ".join(dice.choices(WORDS, k=dice.choice(LENGTHS)))] = None
    return tuple(made)[len(TEXTS) :]


def is_new(number: int) -> bool:
    """Whether a request asks about texts that nobody asked about before."""
    return number % 2 == 1


def turn(number: int) -> range:
    """Which of the texts a request asks about: the first few always, or the next ones that are new."""
    start = len(TEXTS) + number // 2 * ROWS
    return range(start, start + ROWS) if is_new(number) else range(len(TEXTS))


async def _poisoned(given: Given, stage: Stage, packages: dict[str, bytes], texts: Sequence[str], book: Book) -> Seen:
    seen, names = Seen(set(stage.pids("Engine"))), list(packages)
    async with stage.session(timeout_s=RECOVERY_S) as session:
        for name, package in packages.items():
            await publish(session, name, package)

        async def ask(number: int) -> str:
            name, asked = names[number // 2 % len(names)], turn(number)
            told = await predict(session, name, [texts[text] for text in asked])
            fault = fault_of(told, (name, 1), book, Identity("", name, 1), asked)
            return INNOCENT if fault == REFUSED and is_new(number) else fault

        async def guilty() -> None:
            for _ in range(given.sized(*SENT)):
                told = await predict(session, names[0], [POISON])
                seen.guilty[told.why] += 1
                seen.waits.append(told.seconds)
                await asyncio.sleep(AGAIN_S)

        seen.steady = steady = Steady(ask, RATE)
        steady.start()
        attack = asyncio.gather(*(guilty() for _ in range(GUILTY)))
        deadline = time.monotonic() + RECOVERY_S
        while not (attack.done() and await asyncio.to_thread(stage.complete)):
            if time.monotonic() > deadline:
                raise StageFailed(f"the engines did not come back: {seen.guilty}")
            seen.engines.update(await asyncio.to_thread(stage.pids, "Engine"))
            await asyncio.sleep(LOOK_S)
        await attack
        await steady.stop()
    return seen


def _evidence(given: Given, seen: Seen, exit_code: int) -> Evidence:
    assert seen.steady is not None
    failed, sent = faults(seen.steady.samples), GUILTY * given.sized(*SENT)
    innocent = failed.pop(INNOCENT, 0)
    figures = (
        Figure("engines lost", len(seen.engines) - ENGINES, "<=", 2, "processes"),
        Figure("engines lost at least, or nothing was planted", len(seen.engines) - ENGINES, ">=", 1, "processes"),
        Figure("poisonous requests refused as such", seen.guilty[REFUSED], "=", sent, "requests"),
        Figure("failed or wrong answers of everybody else", failed.total(), "=", 0, "answers"),
        Figure("refused for a text that was new, though innocent", innocent, "<=", BORNE, "answers"),
        Figure("answers of everybody else", len(seen.steady.samples), ">=", 100, "answers"),
        Figure("exit code of the stop", exit_code, "=", 0, "code"),
    )
    told = {
        "what the guilty were told": dict(seen.guilty),
        "their waits, seconds": spread(seen.waits),
        "everybody else, seconds": spread([sample.seconds for sample in seen.steady.samples]),
        "faults": dict(failed),
    }
    return Evidence("poison", given.seed, figures, told)
