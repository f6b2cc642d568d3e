"""A typed HTTP client of the service: the same words as the server, the same errors, and no torch, no Ray.

    with Client("http://127.0.0.1:8000") as chorus:
        chorus.adapters.publish("sentiment", Path("sentiment.safetensors"), promote=True)
        chorus.predict(["I love it"], "sentiment")["outputs"]

Every refusal is raised as the `serving.errors` class that the server raised; `serving.calls` says what is sent twice.
"""

from base64 import b64encode
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx2
from typing_extensions import TypedDict

from serving.administration import Audit, Keys, Tenants
from serving.api.residency_answers import ResidencyAnswer
from serving.api.watch_answers import WatchAnswer
from serving.calls import Calls
from serving.namespaces import Packages, Targets, TokenEmbeddings

DEFAULT_URL = "http://127.0.0.1:8000"


def image_input(source: Path | bytes) -> dict[str, str]:
    """An image as an input of `Client.predict`: a PNG, JPEG or WebP, as a file or its bytes; raises `OSError`."""
    data = source if isinstance(source, bytes) else source.read_bytes()
    return {"image": b64encode(data).decode()}


class PredictAnswer(TypedDict):
    """The answer of `POST /v1/predict`; `outputs` is parallel to the inputs, its shape depends on the task."""

    id: str
    task: str
    target: dict[str, Any]
    outputs: list[Any]
    usage: dict[str, Any]
    timing_ms: dict[str, float]
    residency: dict[str, str]
    replica: str


class Client:
    """One service, seen with one key; `timeout_s` bounds each attempt of a call."""

    def __init__(
        self,
        url: str = DEFAULT_URL,
        key: str | None = None,
        *,
        timeout_s: float = 120.0,
        transport: httpx2.BaseTransport | None = None,
    ) -> None:
        self._calls = Calls(url, key, timeout_s=timeout_s, transport=transport)
        self.adapters = Packages(self._calls, "/v1/adapters")
        self.targets = Targets(self._calls, "/v1/targets")
        self.token_embeddings = TokenEmbeddings(self._calls, "/v1/token-embeddings")
        self.keys = Keys(self._calls)
        self.tenants = Tenants(self._calls)
        self.audit = Audit(self._calls)

    @property
    def url(self) -> str:
        """Where the service is."""
        return self._calls.url

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._calls.close()

    def predict(
        self,
        inputs: str | Mapping[str, Any] | Sequence[str | Mapping[str, Any]],
        adapters: str | Sequence[Any] | Mapping[str, Any] | None = None,
        *,
        embedding: str | None = None,
        head: str | None = None,
        task: str | None = None,
        parameters: Mapping[str, Any] | None = None,
        timeout_ms: int | None = None,
        traceparent: str | None = None,
    ) -> PredictAnswer:
        """Answer the inputs with a composition of adapters; `[]` or `"base"` is the bare backbone.

        An input is a text, or an object: `{text, text_pair}`, `{question, context}`, `{text, choices}`, `{words}`, or
        `image_input(PATH)`.
        The call belongs to the current OpenTelemetry span; `traceparent` (W3C) names another one.
        """
        wanted = {
            "inputs": inputs,
            "adapters": adapters,
            "embedding": embedding,
            "head": head,
            "task": task,
            "parameters": parameters,
            "timeout_ms": timeout_ms,
        }
        body = {name: value for name, value in wanted.items() if value is not None}
        headers = {} if traceparent is None else {"traceparent": traceparent}
        answer: PredictAnswer = self._calls.json("POST", "/v1/predict", body=body, headers=headers, idempotent=True)
        return answer

    def limits(self) -> dict[str, Any]:
        """What one request may ask for, and the profile of the backbone."""
        answer: dict[str, Any] = self._calls.json("GET", "/v1/limits")
        return answer

    def residency(self) -> ResidencyAnswer:
        """What lies in which tier of which engine replica."""
        answer: ResidencyAnswer = self._calls.json("GET", "/v1/residency")
        return answer

    def watched(self) -> WatchAnswer:
        """What became of the folders below the one that is watched."""
        answer: WatchAnswer = self._calls.json("GET", "/v1/watch")
        return answer

    def ready(self) -> None:
        """Return when the service can answer now; raises `NotReady` with the reason."""
        self._calls.send("GET", "/readyz", idempotent=False)
