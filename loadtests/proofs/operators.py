"""What operators do to a service under load: publish, move aliases, retire versions and names, move packages about."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable

import aiohttp

from loadtests.proofs.calls import Told, call, publish
from loadtests.proofs.population import Name, Population

KEPT = 4  # versions of a name, before the oldest unused ones are retired
GATED = 0.2  # of the moves
Act = Callable[[Name], Awaitable[None]]


class Operator:
    """One tenant's operator: one act after another on names of its own, until told to stop."""

    def __init__(self, session: aiohttp.ClientSession, population: Population, tenant: str, seed: int) -> None:
        self._session = session
        self._population = population
        self._names = [name for name in population.names if name.tenant == tenant]
        self._dice = random.Random(f"{seed}/{tenant}")
        self.done: Counter[str] = Counter()
        self.failed: Counter[str] = Counter()

    async def begin(self) -> None:
        """Publish the first version of every name."""
        for name in self._names:
            await self._publish(name)
        self.done.clear()

    async def work(self, over: asyncio.Event, pause_s: float) -> None:
        """Act and pause, and again."""
        acts: tuple[tuple[Act, float], ...] = (
            (self._publish, 4),
            (self._move, 4),
            (self._retire, 2),
            (self._reload, 3),
            (self._replace, 1),
        )
        while not over.is_set():
            (act,) = self._dice.choices([act for act, _ in acts], [weight for _, weight in acts])
            await act(self._drawn())
            await asyncio.sleep(pause_s)

    def _drawn(self) -> Name:
        """Mostly one of those that clients ask for most."""
        return self._names[(int(self._dice.paretovariate(0.6)) - 1) % len(self._names)]

    async def _publish(self, name: Name) -> None:
        """A new version, and the alias on it, in one request."""
        made, version = self._population.forge(name), name.last + 1
        name.last = version
        name.timeline.begin(version, time.monotonic())
        told = await publish(self._session, name.name, made.data, promote=True)
        name.timeline.done(time.monotonic())
        name.versions.add(version)
        self._count("publish", told, right=told.body.get("version") == version)

    async def _move(self, name: Name) -> None:
        """Roll the alias to another version that is there."""
        others = sorted(name.versions - name.doomed - {name.timeline.version})
        if not others:
            return
        version, gate = self._dice.choice(others), self._dice.random() < GATED
        name.timeline.begin(version, time.monotonic())
        told = await call(
            self._session, "PUT", f"/v1/adapters/{name.name}/aliases/prod", body={"version": version, "gate": gate}
        )
        name.timeline.done(time.monotonic())
        self._count("move through the gate" if gate else "move", told)

    async def _retire(self, name: Name) -> None:
        """Delete what nobody needs."""
        chosen = name.unused[:-KEPT] or name.unused[:1]
        name.doomed.update(chosen)  # all at once: while one of them is deleted, nobody begins to ask for the next
        for version in chosen:
            told = await call(self._session, "DELETE", f"/v1/adapters/{name.name}@{version}")
            name.versions.discard(version)
            self._count("retire", told)

    async def _reload(self, name: Name) -> None:
        """Out of every tier but the disk, and back."""
        for verb in ("unload", "preload"):
            told = await call(self._session, "POST", f"/v1/adapters/{name.name}:{verb}")
            self._count(verb, told)

    async def _replace(self, name: Name) -> None:
        """Retire the whole name, and publish it anew; nobody asks for it meanwhile."""
        name.away = True
        await name.quiet()
        for method, path in (("DELETE", f"{name.name}/aliases/prod"), ("DELETE", name.name)):
            self._count("retire all", await call(self._session, method, f"/v1/adapters/{path}"))
        name.versions.clear()
        name.doomed.clear()
        await self._publish(name)
        name.away = False

    def _count(self, act: str, told: Told, *, right: bool = True) -> None:
        self.done[act] += 1
        if not (told.ok and right):
            self.failed[f"{act}: {told.why}"] += 1
