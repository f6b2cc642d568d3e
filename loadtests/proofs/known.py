"""Packages that a service knows before something is taken from it, and what it answers about them while it is away."""

import hashlib
import random
from collections import Counter
from collections.abc import Sequence

import aiohttp

from loadtests.proofs.backbones import TEXTS
from loadtests.proofs.calls import Told, call, predict, publish
from loadtests.proofs.fingerprints import METHODS, Book, Fingerprint, Forge, Identity
from loadtests.proofs.judging import fault_of
from loadtests.proofs.publishing_process import TENANT
from loadtests.proofs.stage import StageFailed


class Known:
    """One version of every name, all of one tenant."""

    def __init__(self, forge: Forge, session: aiohttp.ClientSession, seed: int) -> None:
        self.made: dict[str, Fingerprint] = {}
        self._forge = forge
        self._session = session
        self._dice = random.Random(seed)
        self._book = Book()

    def make(self, name: str) -> Fingerprint:
        """A package for a name, which is not published yet."""
        made = self._forge.make(name, METHODS[len(self.made) % len(METHODS)])
        self._book.enter(Identity(TENANT, name, 1), made.logits)
        self.made[name] = made
        return made

    async def add(self, names: Sequence[str], *, pin: bool = False) -> None:
        """Publish, and pin where it is to stay resident; raises `StageFailed`."""
        for name in names:
            told = await publish(self._session, name, self.make(name).data, promote=True)
            if told.ok and pin:
                told = await call(self._session, "POST", f"/v1/adapters/{name}:pin")
            if not told.ok:
                raise StageFailed(f"{name}: {told.why}")

    async def again(self, name: str) -> Told:
        """Publish the same bytes once more."""
        return await publish(self._session, name, self.made[name].data)

    async def ask(self, name: str, version: int = 1) -> str:
        """What is wrong with an answer of a name; "" for nothing."""
        text = self._dice.randrange(len(TEXTS))
        told = await predict(self._session, name, [TEXTS[text]])
        return fault_of(told, (name, version), self._book, Identity(TENANT, name, 1), [text])

    async def fetch(self, name: str) -> str:
        """What is wrong with the package as it is served; `wrong:` where it came, and is another one."""
        async with self._session.get(f"/v1/adapters/{name}:package") as answer:
            try:
                data = await answer.read()
            except aiohttp.ClientPayloadError:
                return "broken off"
            if answer.status != 200:
                return f"{answer.status}"
        right = f"sha256:{hashlib.sha256(data).hexdigest()}" == self.made[name].digest
        return "" if right else "wrong: other bytes"

    async def ask_all(self, names: Sequence[str]) -> Counter[str]:
        """What was wrong with one answer and one package of each; one after another."""
        found = Counter[str]()
        for name in names:
            found.update([await self.ask(name), await self.fetch(name)])
        return found
