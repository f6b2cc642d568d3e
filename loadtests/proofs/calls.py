"""HTTP calls of a proof: every one ends in a value, also where nobody answered, so that the proof can count it."""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import aiohttp
from yarl import URL

RAW: Mapping[str, Any] = {"function_to_apply": "none", "top_k": None}  # logits, in label order
NATIVE = {"Content-Type": "application/octet-stream"}


@dataclass(frozen=True)
class Told:
    """What came of one call: its status (0 where no answer came), its JSON body ({} where it is none), and when."""

    status: int
    body: Mapping[str, Any]
    began: float  # seconds, monotonic
    ended: float
    headers: Mapping[str, str]
    problem: str = ""  # of the connection

    @property
    def ok(self) -> bool:
        """Whether the service did what was asked."""
        return 200 <= self.status < 300

    @property
    def seconds(self) -> float:
        """From asking to the whole answer."""
        return self.ended - self.began

    @property
    def why(self) -> str:
        """In a few words, for counting: `503 registry_unavailable`, or what became of the connection."""
        return f"{self.status} {self.body.get('code', '')}".strip() if self.status else self.problem


async def call(
    session: aiohttp.ClientSession,
    method: str,
    path: str | URL,
    *,
    data: bytes | None = None,
    body: Mapping[str, Any] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Told:
    """One call; `data` is a package, `body` JSON. A `URL` is whole, and sent as it is written."""
    sent = {**(NATIVE if data is not None else {}), **(headers or {})}
    began = time.monotonic()
    try:
        async with session.request(method, path, data=data, json=body, headers=sent) as answer:
            text = await answer.read()
            return Told(answer.status, _object(text), began, time.monotonic(), dict(answer.headers))
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        return Told(0, {}, began, time.monotonic(), {}, type(error).__name__)


async def publish(
    session: aiohttp.ClientSession, name: str, data: bytes, *, promote: bool = False, once: str | None = None
) -> Told:
    """Publish one package; `once` is an idempotency key."""
    headers = {} if once is None else {"Idempotency-Key": once}
    query = "?promote=true" if promote else ""
    return await call(session, "PUT", f"/v1/adapters/{name}{query}", data=data, headers=headers)


async def predict(session: aiohttp.ClientSession, reference: str, texts: Sequence[str]) -> Told:
    """Raw logits of one adapter for some texts."""
    asked = {"inputs": list(texts), "adapters": [reference], "parameters": RAW}
    return await call(session, "POST", "/v1/predict", body=asked)


def answered(told: Told) -> tuple[tuple[str, int], list[list[float]]]:
    """Who the answer says it is from (name and version), and each text's logits; raises `ValueError` for another shape."""
    try:
        (adapter,) = told.body["target"]["adapters"]
        scores = [[float(entry["score"]) for entry in output] for output in told.body["outputs"]]
        return (str(adapter["name"]), int(adapter["version"])), scores
    except (KeyError, TypeError) as error:
        raise ValueError(f"an answer of another shape: {error!r}") from error


def _object(text: bytes) -> Mapping[str, Any]:
    try:
        value = json.loads(text)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
