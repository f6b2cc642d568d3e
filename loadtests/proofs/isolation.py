"""Three tenants, all routes, all ids: what is another tenant's is as absent as what is nobody's.

Each tenant owns one thing of every kind. Everybody asks every route of `/openapi.json` about everything that the others
own, and about ids that nobody has: the answers must be equal byte for byte, one id written for the other. No answer may
hold a word of somebody else's; a name that all have must be answered by the asker's own package; in the end nothing may
have changed for anybody, and no route answers without a key.
"""

import asyncio
import json
import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import aiohttp

from loadtests.proofs.backbones import TEXTS, tiny
from loadtests.proofs.callers import TENANT_SCOPES, make_keys
from loadtests.proofs.calls import answered, predict, publish
from loadtests.proofs.estates import SHARED, Estate, Ids, absent_ids, build, mark_of
from loadtests.proofs.evidence import Evidence, Figure
from loadtests.proofs.exchanges import Answer, exchange, said
from loadtests.proofs.fingerprints import Book, Fingerprint, Forge, Identity
from loadtests.proofs.given import Given
from loadtests.proofs.own_state import changes, state
from loadtests.proofs.prying import Ask, Route, asked, creating, plain, routes_of, unasked
from loadtests.proofs.stage import Stage, staged
from serving.registry.records import PUBLIC

TENANTS = ("amber", "birch", "cedar")
ADMIN = "office"
AT_ONCE = 8
OPEN = frozenset({"/livez", "/readyz", "/openapi.json", "/docs"})
PACKAGES = ("/v1/adapters", "/v1/targets", "/v1/token-embeddings", "/v1/predict", "/v1/residency", "/v1/watch")
SAFE = ("predict", "preload_", "validate_")  # what everybody may do with what is public,
OWN = ("put_target", "set_active_embedding", "add_embedding")  # and where it becomes part of the asker's own
TOLD = 20  # examples of each fault in the evidence


@dataclass
class Found:
    """What the run counted; of each fault, where."""

    asked: Counter[str] = field(default_factory=Counter)  # by route
    pairs: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    told_apart: list[str] = field(default_factory=list)
    leaks: Counter[str] = field(default_factory=Counter)
    granted: list[str] = field(default_factory=list)
    unlocked: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    mixed_up: Counter[str] = field(default_factory=Counter)
    own: int = 0  # predictions that the asker's own package answered


@dataclass(frozen=True, eq=False)
class Ground:
    """What the run goes by: the running service, its routes, and who owns what."""

    stage: Stage
    keys: Mapping[str, str]
    estates: Mapping[str, Estate]
    routes: Sequence[Route]
    twin: Fingerprint  # bytes that two tenants published
    dice: random.Random

    def session(self, tenant: str) -> aiohttp.ClientSession:
        """With the key of a tenant."""
        return self.stage.session(key=self.keys[tenant])

    def others(self, tenant: str) -> dict[str, Estate]:
        """Everybody else, by name."""
        return {name: estate for name, estate in self.estates.items() if name != tenant}


def run(given: Given) -> Evidence:
    """Build the estates, ask everything, and compare."""
    backbone, data = tiny(given.folder / "backbone", given.seed), given.folder / "data"
    forge, dice = Forge(backbone, TEXTS, given.seed), random.Random(given.seed)
    tokenizer = json.loads((backbone / "tokenizer.json").read_text())
    marks = {tenant: mark_of(tenant, dice) for tenant in TENANTS}
    named = {**marks, PUBLIC: PUBLIC, ADMIN: ADMIN}
    made = make_keys(data, {name: ("admin",) if name == ADMIN else TENANT_SCOPES for name in named.values()})
    keys = {tenant: made[name] for tenant, name in named.items()}
    with staged(Stage(backbone, data, key=keys[TENANTS[0]])) as stage:
        found = asyncio.run(_found(stage, keys, {**marks, PUBLIC: mark_of(PUBLIC, dice)}, forge, tokenizer, dice))
        return _evidence(given, *found)


async def _found(
    stage: Stage,
    keys: Mapping[str, str],
    marks: Mapping[str, str],
    forge: Forge,
    tokenizer: Mapping[str, Any],
    dice: random.Random,
) -> tuple[Ground, Found]:
    estates, twin = {}, forge.make("twin")
    for tenant, mark in marks.items():
        async with stage.session(key=keys[tenant]) as session:
            estates[tenant] = await build(session, tenant, mark, forge, tokenizer)
            if tenant in TENANTS[:2]:
                await publish(session, _twin(estates[tenant]), twin.data)
    async with stage.session() as session, session.get("/openapi.json") as answer:
        routes = routes_of(await answer.json())
    ground, found = Ground(stage, keys, estates, routes, twin, dice), Found()
    before = await _states(ground)
    for tenant in estates:
        async with ground.session(tenant) as session:
            await _pry(session, tenant, ground, found)
    await _predictions(ground, found)
    found.changed += changes(before, await _states(ground))
    for tenant in TENANTS:
        async with ground.session(tenant) as session:
            await _take_names(session, tenant, ground, found)
    await _locks(ground, found)
    return ground, found


async def _pry(session: aiohttp.ClientSession, tenant: str, ground: Ground, found: Found) -> None:
    """One tenant asks about everybody else's things, and about what all may see."""
    own, others = ground.estates[tenant], [*ground.others(tenant).values()]
    for other, estate in ground.others(tenant).items():
        absent = absent_ids(other, estate.ids, ground.dice)
        foreign = replace(absent, key_id=estate.ids.key_id) if other == PUBLIC else estate.ids
        pairs = zip(asked(ground.routes, foreign, own), asked(ground.routes, absent, own), strict=True)

        async def pair(one: Ask, two: Ask, foreign: Ids = foreign, absent: Ids = absent) -> None:
            first, second = await exchange(session, one), await exchange(session, two)
            _note(found, one, first.status, first.leaked(said(one), others), tenant)
            found.pairs += 1
            if first.written(foreign, absent) != second.written(foreign, absent):
                found.told_apart.append(_apart(tenant, one, first, second))

        await _a_few_at_a_time(pair(*both) for both in pairs)
    for ask in plain(ground.routes):
        answer = await exchange(session, ask)
        _note(found, ask, answer.status, answer.leaked(said(ask), others), tenant)
    if tenant != PUBLIC:
        for ask in asked(ground.routes, ground.estates[PUBLIC].ids, own):
            if ask.operation in OWN:
                continue
            answer = await exchange(session, ask)
            _note(found, ask, answer.status, answer.leaked(said(ask), others), tenant)
            if answer.status < 300 and ask.method != "GET" and not ask.operation.startswith(SAFE):
                found.granted.append(f"{tenant}: {ask.method} {ask.path}")


async def _take_names(session: aiohttp.ClientSession, tenant: str, ground: Ground, found: Found) -> None:
    """One tenant publishes under the others' names, which is as if nobody had them, and hurts nobody."""
    own, others, before = ground.estates[tenant], [*ground.others(tenant).values()], await _states(ground)
    for other, estate in ground.others(tenant).items():
        if other == PUBLIC:
            continue
        absent = absent_ids(other, estate.ids, ground.dice)
        both = zip(creating(ground.routes, estate.ids, own), creating(ground.routes, absent, own), strict=True)
        for one, two in both:
            first, second = await exchange(session, one), await exchange(session, two)
            _note(found, one, first.status, first.leaked(said(one), others), tenant)
            found.pairs += 1
            if first.written(estate.ids, absent) != second.written(estate.ids, absent):
                found.told_apart.append(_apart(tenant, one, first, second))
    del before[tenant]  # these became its own
    found.changed += changes(before, await _states(ground))


async def _predictions(ground: Ground, found: Found) -> None:
    """The name that all have, and the bytes that two have, before and after one of these lets go of them."""
    book, twins = Book(), ground.estates.keys() & set(TENANTS[:2])
    for tenant in TENANTS:
        logits = ground.estates[tenant].logits
        assert logits is not None
        book.enter(Identity(tenant, SHARED, 1), logits)
    book.enter(Identity("", "twin", 1), ground.twin.logits)

    async def ask(tenant: str, name: str, right: Identity) -> None:
        async with ground.session(tenant) as session:
            told = await predict(session, name, TEXTS)
        try:
            who = {book.read(number, scores) for number, scores in enumerate(answered(told)[1])}
        except ValueError:
            who = set()
        if told.ok and who == {right}:
            found.own += 1
        else:
            found.mixed_up[f"{tenant} asked {name}: {told.why}, answered by {sorted(map(str, who))}"] += 1

    for _ in range(5):
        await asyncio.gather(*(ask(tenant, SHARED, Identity(tenant, SHARED, 1)) for tenant in TENANTS))
        await asyncio.gather(*(ask(t, _twin(ground.estates[t]), Identity("", "twin", 1)) for t in sorted(twins)))


async def _locks(ground: Ground, found: Found) -> None:
    """No route without a key, or with one that nobody has; none of packages for an administrator."""
    own = ground.estates[TENANTS[0]]
    asks = {ask.operation: ask for make in (asked, creating) for ask in make(ground.routes, own.ids, own)} | {
        ask.operation: ask for ask in plain(ground.routes)
    }
    unknown = "ck_" + "0" * 12 + "_" + "x" * 43
    async with ground.stage.session(key=unknown) as session, ground.session(ADMIN) as admin:
        for ask in asks.values():
            bare = replace(ask, headers={**ask.headers, "Authorization": "Bearer"})
            for one in (ask, bare):
                status = (await exchange(session, one)).status
                if status != 401 and ask.path.partition("?")[0] not in OPEN:
                    found.unlocked.append(f"{ask.method} {ask.path}: {status}")
            if ask.path.startswith(PACKAGES) and (status := (await exchange(admin, ask)).status) != 403:
                found.granted.append(f"{ADMIN}: {ask.method} {ask.path}: {status}")


async def _states(ground: Ground) -> dict[str, Any]:
    """What every tenant sees of its own."""
    found = {}
    for tenant, estate in ground.estates.items():
        async with ground.session(tenant) as session:
            found[tenant] = await state(session, estate)
    return found


def _apart(tenant: str, ask: Ask, first: Answer, second: Answer) -> str:
    told = [f"{answer.status} {answer.body[:300]}" for answer in (first, second)]
    return f"{tenant}: {ask.method} {ask.path} ({ask.about}): {told[0]} | {told[1]}"


def _note(found: Found, ask: Ask, status: int, leaks: Sequence[str], tenant: str) -> None:
    found.asked[ask.operation] += 1
    found.statuses[status] += 1
    for word in leaks:
        found.leaks[f"{tenant}: {ask.method} {ask.path} tells {word}"] += 1


async def _a_few_at_a_time(jobs: Iterable[Any]) -> None:
    left = iter(jobs)

    async def worker() -> None:
        for job in left:
            await job

    await asyncio.gather(*(worker() for _ in range(AT_ONCE)))


def _twin(estate: Estate) -> str:
    return f"twin-{estate.ids.tenant}"


def _evidence(given: Given, ground: Ground, found: Found) -> Evidence:
    silent = [route.operation for route in ground.routes if not found.asked[route.operation]]
    figures = (
        Figure("routes that were asked nothing", len(silent), "=", 0, "routes"),
        Figure("query parameters that were asked nothing", len(unasked(ground.routes)), "=", 0, "parameters"),
        Figure("foreign and absent told apart", len(found.told_apart), "=", 0, "questions"),
        Figure("words of another tenant in an answer", found.leaks.total(), "=", 0, "answers"),
        Figure("granted to who may not", len(found.granted), "=", 0, "requests"),
        Figure("answered without a key", len(found.unlocked), "=", 0, "requests"),
        Figure("changed for its owner", len(found.changed), "=", 0, "states"),
        Figure("predictions by another's package", found.mixed_up.total(), "=", 0, "answers"),
        Figure("server errors", sum(n for status, n in found.statuses.items() if status >= 500), "=", 0, "answers"),
    )
    seen = {
        "tenants": [*ground.estates],
        "routes": len(ground.routes),
        "requests by route": dict(sorted(found.asked.items())),
        "questions asked of a foreign and of an absent id": found.pairs,
        "statuses": dict(sorted(found.statuses.items())),
        "predictions by the asker's own package": found.own,
        "routes and parameters without a question": [*silent, *unasked(ground.routes)],
        "told apart": found.told_apart[:TOLD],
        "leaks": dict(found.leaks.most_common(TOLD)),
        "granted": found.granted[:TOLD],
        "without a key": found.unlocked[:TOLD],
        "changed": found.changed[:TOLD],
        "mixed up": dict(found.mixed_up),
    }
    return Evidence("isolation", given.seed, figures, seen)
