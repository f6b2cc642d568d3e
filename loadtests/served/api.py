"""The service before, beside and after the load: its profile, publishing, one answer alone, its metrics, clearing away."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from adapters.architectures.profile import BackboneProfile
from loadtests.client.judging import RAW
from loadtests.served.counters import Totals, read_totals
from loadtests.served.target import Target

PUBLISHING = 4  # uploads in flight
TIMEOUT_S = 120.0
NATIVE = {"Content-Type": "application/octet-stream"}


class ServiceFailed(Exception):
    """The service refused something that the run needs; the message holds the call and the refusal."""


@dataclass(frozen=True, eq=False)
class Api:
    """Calls to one service. Every method raises `ServiceFailed`, except those that may answer None."""

    session: aiohttp.ClientSession
    target: Target
    published: list[tuple[int, str]] = field(default_factory=list)  # tenant and name, to be retired some time

    async def profile(self) -> BackboneProfile:
        """The backbone that is served."""
        body = await self.call("GET", "/v1/limits", self.target.tenants[0].key)
        try:
            return BackboneProfile.from_json(body["profile"])
        except (KeyError, TypeError) as error:
            raise ServiceFailed(f"GET /v1/limits tells no backbone profile: {error!r}") from error

    async def publish(self, packages: Sequence[tuple[int, str, str, Path]], tell: Callable[[int, int], None]) -> None:
        """Publish packages (tenant, name, digest, file); bytes that are a version already stay that version."""
        gate, done = asyncio.Semaphore(PUBLISHING), 0

        async def one(tenant: int, name: str, digest: str, path: Path) -> None:
            nonlocal done
            self.published.append((tenant, name))
            async with gate:
                data, key = await asyncio.to_thread(path.read_bytes), self.target.tenants[tenant].key
                body = await self.call("PUT", f"/v1/adapters/{name}", key, data)
            if body.get("digest") != digest:
                raise ServiceFailed(f"{name} was published as {body.get('digest')}, not {digest}")
            done += 1
            tell(done, len(packages))

        try:
            async with asyncio.TaskGroup() as group:
                for package in packages:
                    group.create_task(one(*package))
        except* ServiceFailed as failed:
            raise failed.exceptions[0] from None

    async def answers(
        self, tenant: int, name: str, digest: str, texts: Sequence[str]
    ) -> tuple[list[list[float]], dict[str, Any]]:
        """Raw logits of some texts, asked while nothing else runs; and the whole answer."""
        asked = {"inputs": list(texts), "adapters": [f"{name}@{digest}"], "parameters": RAW}
        body = await self.call("POST", "/v1/predict", self.target.tenants[tenant].key, asked)
        try:
            return [[float(entry["score"]) for entry in output] for output in body["outputs"]], body
        except (KeyError, TypeError, ValueError) as error:
            raise ServiceFailed(f"{name} gave an answer of another shape: {error!r}") from error

    async def retire(self, tell: Callable[[int, int], None]) -> int:
        """Delete all names that were published; how many stay, because the service refuses or is no more."""
        stay = 0
        for done, (tenant, name) in enumerate(self.published):
            try:
                await self.call("DELETE", f"/v1/adapters/{name}", self.target.tenants[tenant].key)
            except ServiceFailed:
                stay += 1
            tell(done + 1, len(self.published))
        return stay

    async def totals(self) -> Totals | None:
        """What is counted so far; None where the key may not read it."""
        try:
            return read_totals(await self._text("GET", "/metrics", self.target.watcher))
        except (ServiceFailed, ValueError):
            return None

    async def residency(self) -> Mapping[str, Any] | None:
        """What is where; None where the key may not read it."""
        try:
            return await self.call("GET", "/v1/residency", self.target.watcher)
        except ServiceFailed:
            return None

    async def call(
        self, method: str, path: str, key: str, body: bytes | dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """One call; the JSON object that it answers, {} where it answers nothing."""
        text = await self._text(method, path, key, body)
        try:
            value = json.loads(text or "{}")
        except ValueError as error:
            raise ServiceFailed(f"{method} {path}: no JSON: {text[:100]!r}") from error
        return value if isinstance(value, dict) else {}

    async def _text(self, method: str, path: str, key: str, body: bytes | dict[str, Any] | None = None) -> str:
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        sent: dict[str, Any] = {"json": body} if isinstance(body, dict) else {"data": body}
        if isinstance(body, bytes):
            headers |= NATIVE
        try:
            async with self.session.request(method, f"{self.target.url}{path}", headers=headers, **sent) as answer:
                text = await answer.text()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise ServiceFailed(f"{method} {path}: {type(error).__name__}: {error}") from error
        if answer.status >= 300:
            raise ServiceFailed(f"{method} {path}: {answer.status} {text[:500]}")
        return text


@asynccontextmanager
async def connect(target: Target) -> AsyncIterator[Api]:
    """A session with a service."""
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=TIMEOUT_S)) as session:
        yield Api(session, target)
