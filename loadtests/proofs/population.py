"""Who lives in a service under churn: tenants with keys, their names, which versions there are, and who uses which now."""

import asyncio
import json
import os
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from loadtests.proofs.fingerprints import METHODS, Book, Fingerprint, Forge, Identity
from loadtests.proofs.stage import ROOT, StageFailed
from loadtests.proofs.timeline import Timeline

TENANTS = ("ada", "bob", "eve")
SCOPES = "predict,publish,operate"


@dataclass
class Name:
    """One name of one tenant. Clients leave it alone while it is `away`, and a version while it is `doomed`."""

    tenant: str
    name: str
    versions: set[int] = field(default_factory=set)  # that are there
    last: int = 0  # the highest number that was ever given
    timeline: Timeline = field(default_factory=Timeline)  # of the alias `prod`
    doomed: set[int] = field(default_factory=set)
    away: bool = False
    used: Counter[int | None] = field(default_factory=Counter)  # requests under way; None is by the bare name
    idle: asyncio.Condition = field(default_factory=asyncio.Condition)

    @property
    def unused(self) -> list[int]:
        """Versions that nobody needs: not the current one, and nobody has asked for them by number just now."""
        return sorted(v for v in self.versions - self.doomed - {self.timeline.version} if not self.used[v])

    async def leave(self, version: int | None) -> None:
        """A request ended."""
        self.used[version] -= 1
        async with self.idle:
            self.idle.notify_all()

    async def quiet(self) -> None:
        """Wait until no request is under way; with `away` none comes."""
        async with self.idle:
            await self.idle.wait_for(lambda: not +self.used)


class Population:
    """All names, and who answers how."""

    def __init__(self, forge: Forge, count: int) -> None:
        """`count` names, the same ones for every tenant as far as they go."""
        self.book = Book()
        self.names = [Name(TENANTS[i % len(TENANTS)], f"fp/{i // len(TENANTS):03d}") for i in range(count)]
        self._forge = forge

    @property
    def texts(self) -> tuple[str, ...]:
        """What clients ask about."""
        return self._forge.texts

    def forge(self, name: Name) -> Fingerprint:
        """The package of the next version, which the book knows already: it may answer before it is acknowledged."""
        version = name.last + 1
        identity = Identity(name.tenant, name.name, version)
        made = self._forge.make(str(identity), METHODS[(len(self.book)) % len(METHODS)])
        self.book.enter(identity, made.logits)
        return made


def keys(data: Path) -> dict[str, str]:
    """A key for each tenant, made as an operator makes the first ones."""
    made = {}
    for tenant in TENANTS:
        command = [sys.executable, "-m", "serving.cli", "key", "create", "--data", str(data), "--tenant", tenant]
        command += ["--scopes", SCOPES, "--json"]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)  # noqa: S603 - ours
        if done.returncode:
            raise StageFailed(f"no key for {tenant}: {done.stderr}")
        made[tenant] = str(json.loads(done.stdout)["secret"])
    return made
