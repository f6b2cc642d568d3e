"""The service as a load test sees it: its limits and backbone, publishing, one prediction."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp

from adapters.architectures.profile import BackboneProfile
from loadtests.answers import Reference, fault, read_scores, tier_of
from loadtests.drive import ERROR, RIGHT, WRONG, Outcome
from loadtests.synthetic import SyntheticAdapter

PUBLISHING = 4  # uploads in flight


class ServiceFailed(Exception):
    """The service refused something that the test needs before it can start."""


@dataclass(frozen=True, eq=False)
class Service:
    """A session with one service. Every method raises `ServiceFailed`, except `ask`, whose outcome tells."""

    session: aiohttp.ClientSession
    url: str
    tolerance: float  # absolute, on raw logits

    async def profile(self) -> BackboneProfile:
        """The backbone that is served."""
        body = await self._json("GET", "/v1/limits")
        try:
            return BackboneProfile.from_json(body["profile"])
        except (KeyError, TypeError) as error:
            raise ServiceFailed(f"GET /v1/limits tells no backbone profile: {error!r}") from error

    async def publish(self, adapters: Sequence[SyntheticAdapter]) -> None:
        """Publish all; bytes that are a version already stay that version."""
        gate = asyncio.Semaphore(PUBLISHING)

        async def one(adapter: SyntheticAdapter) -> None:
            async with gate:
                body = await self._json("PUT", f"/v1/adapters/{adapter.name}", adapter.data)
            if body.get("digest") != adapter.digest:
                raise ServiceFailed(f"{adapter.name} was published as {body.get('digest')}, not {adapter.digest}")

        async with asyncio.TaskGroup() as group:
            for adapter in adapters:
                group.create_task(one(adapter))

    async def reference(self, adapter: SyntheticAdapter, text: str) -> Reference:
        """The adapter's answer to a text while nothing else runs."""
        body = await self._json("POST", "/v1/predict", request_of(adapter, text))
        _, scores = read_scores(body)
        found = Reference(adapter.digest, adapter.labels, scores)
        wrong = fault(body, found, self.tolerance)
        if wrong:
            raise ServiceFailed(f"{adapter.name} alone: {wrong}")
        return found

    async def ask(self, adapter: SyntheticAdapter, text: str, reference: Reference) -> Outcome:
        """One checked prediction."""
        try:
            async with self.session.post(f"{self.url}/v1/predict", json=request_of(adapter, text)) as answer:
                body = await _object(answer)
                if answer.status != 200:
                    return Outcome(ERROR, answer.status, None, str(body.get("code", ""))[:200])
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            return Outcome(ERROR, 0, None, f"{type(error).__name__}: {error}"[:200])
        wrong = fault(body, reference, self.tolerance)
        return Outcome(WRONG if wrong else RIGHT, 200, tier_of(body), wrong or "")

    async def _json(self, method: str, path: str, body: bytes | dict[str, Any] | None = None) -> dict[str, Any]:
        sent: dict[str, Any] = {"data": body} if isinstance(body, bytes) else {"json": body}
        if isinstance(body, bytes):
            sent["headers"] = {"Content-Type": "application/octet-stream"}
        try:
            async with self.session.request(method, f"{self.url}{path}", **sent) as answer:
                value = await _object(answer)
                if answer.status >= 300:
                    raise ServiceFailed(f"{method} {path}: {answer.status} {value.get('detail', '')}")
                return value
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise ServiceFailed(f"{method} {path}: {type(error).__name__}: {error}") from error


@asynccontextmanager
async def connect(url: str, key: str | None, tolerance: float, timeout_s: float) -> AsyncIterator[Service]:
    """A session without a limit on connections, because an open loop may not wait for one."""
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0),
        timeout=aiohttp.ClientTimeout(total=timeout_s),
        headers=headers,
    ) as session:
        yield Service(session, url.rstrip("/"), tolerance)


def request_of(adapter: SyntheticAdapter, text: str) -> dict[str, Any]:
    """A prediction pinned to one digest, with raw logits in label order, so that the answer can be checked."""
    return {
        "inputs": [text],
        "adapters": [f"{adapter.name}@{adapter.digest}"],
        "parameters": {"function_to_apply": "none", "top_k": None},
    }


async def _object(answer: aiohttp.ClientResponse) -> dict[str, Any]:
    try:
        value = json.loads(await answer.read())
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
