"""A typed HTTP client of the service: the same words as the server, the same errors, and no torch, no Ray.

    with Client("http://127.0.0.1:8000") as chorus:
        chorus.adapters.publish("sentiment", Path("sentiment.safetensors"), promote=True)
        chorus.predict(["I love it"], "sentiment")["outputs"]

Every refusal is raised as the `serving.errors` class that the server raised; `serving.calls` says what is sent twice.
"""

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self
from urllib.parse import quote

import httpx2
from typing_extensions import TypedDict

from adapters.refs import parse_alias, parse_name, parse_reference
from serving.api import answers
from serving.calls import Calls

DEFAULT_URL = "http://127.0.0.1:8000"
MEDIA_TYPE = "application/octet-stream"
_CHUNK = 1 << 20
Action = Literal["preload", "unload", "pin", "unpin"]
Progress = Callable[[int], None]


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
        self.token_embeddings = TokenEmbeddings(self._calls, "/v1/token-embeddings")
        self.keys = Keys(self._calls)

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
        inputs: str | Mapping[str, str] | Sequence[str | Mapping[str, str]],
        adapters: str | Sequence[Any] | Mapping[str, Any] | None = None,
        *,
        embedding: str | None = None,
        head: str | None = None,
        task: str | None = None,
        parameters: Mapping[str, Any] | None = None,
        timeout_ms: int | None = None,
    ) -> PredictAnswer:
        """Answer the inputs with a composition of adapters; `[]` or `"base"` is the bare backbone."""
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
        answer: PredictAnswer = self._calls.json("POST", "/v1/predict", body=body, idempotent=True)
        return answer

    def limits(self) -> dict[str, Any]:
        """What one request may ask for, and the profile of the backbone."""
        answer: dict[str, Any] = self._calls.json("GET", "/v1/limits")
        return answer

    def residency(self) -> answers.ResidencyAnswer:
        """What lies in which tier of which engine replica."""
        answer: answers.ResidencyAnswer = self._calls.json("GET", "/v1/residency")
        return answer

    def ready(self) -> None:
        """Return when the service can answer now; raises `NotReady` with the reason."""
        self._calls.send("GET", "/readyz", idempotent=False)


class Packages:
    """One namespace of published packages: adapters (with heads), or token embeddings."""

    def __init__(self, calls: Calls, root: str) -> None:
        self._calls = calls
        self._root = root

    def names(self, prefix: str = "") -> list[answers.SummaryAnswer]:
        """Every name that starts with `prefix`, sorted."""
        found: list[answers.SummaryAnswer] = []
        after: str | None = ""
        while after is not None:
            page = self.page(prefix, after)
            found.extend(page["items"])
            after = page["next"]
        return found

    def page(self, prefix: str = "", after: str = "") -> answers.ListAnswer:
        """One page of names."""
        params = {"prefix": prefix, "after": after}
        answer: answers.ListAnswer = self._calls.json("GET", self._root, params=params)
        return answer

    def show(self, reference: str) -> answers.NameAnswer:
        """One name whole; with a selector, the version that it means."""
        answer: answers.NameAnswer = self._calls.json("GET", self._at(reference))
        return answer

    def history(self, name: str) -> list[answers.EventAnswer]:
        """The audit of one name, newest first."""
        answer: answers.HistoryAnswer = self._calls.json("GET", self._at(name) + ":history")
        return answer["items"]

    def publish(
        self, name: str, package: Path | bytes, *, promote: bool = False, progress: Progress | None = None
    ) -> answers.PublishedAnswer:
        """Publish one native package; a file is streamed, and `progress` is told the bytes sent so far."""
        path = f"{self._root}/{quote(parse_name(name))}"
        params = {"promote": "true"} if promote else {}
        answer: answers.PublishedAnswer = self._upload("PUT", path, package, params=params, progress=progress)
        return answer

    def validate(self, name: str, package: Path | bytes, *, progress: Progress | None = None) -> answers.CheckAnswer:
        """The checks of `publish`, storing nothing."""
        path = f"{self._root}/{quote(parse_name(name))}:validate"
        answer: answers.CheckAnswer = self._upload("POST", path, package, params={}, progress=progress)
        return answer

    def fetch(self, reference: str, target: Path) -> int:
        """Write the native package to `target`, which is whole or as it was; the number of bytes."""
        part = target.with_name(f"{target.name}.part")
        try:
            with self._calls.download(self._at(reference) + ":package") as chunks, part.open("wb") as file:
                nbytes = sum(file.write(chunk) for chunk in chunks)
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)
        return nbytes

    def delete(self, reference: str) -> None:
        """Retire a version (`name@3`), or the whole name."""
        self._calls.json("DELETE", self._at(reference))

    def set_alias(self, name: str, alias: str, version: int, *, if_match: int | None = None) -> answers.NameAnswer:
        """Point an alias at a version; with `if_match`, only if the name's revision is still that one."""
        answer: answers.NameAnswer = self._calls.json(
            "PUT",
            self._alias(name, alias),
            body={"version": version},
            headers=_if_match(if_match),
            idempotent=if_match is None,  # its own success would make a second try fail
        )
        return answer

    def delete_alias(self, name: str, alias: str, *, if_match: int | None = None) -> answers.NameAnswer:
        """Remove an alias."""
        headers = _if_match(if_match)
        answer: answers.NameAnswer = self._calls.json(
            "DELETE", self._alias(name, alias), headers=headers, idempotent=False
        )
        return answer

    def act(self, reference: str, action: Action) -> answers.ReplicasAnswer:
        """Preload, unload, pin or unpin a version on every replica."""
        path = f"{self._at(reference)}:{action}"
        answer: answers.ReplicasAnswer = self._calls.json("POST", path, idempotent=True)
        return answer

    def _at(self, reference: str) -> str:
        return f"{self._root}/{quote(str(parse_reference(reference)), safe='/@:')}"

    def _alias(self, name: str, alias: str) -> str:
        return f"{self._root}/{quote(parse_name(name))}/aliases/{quote(parse_alias(alias))}"

    def _upload(
        self, method: str, path: str, package: Path | bytes, *, params: Mapping[str, str], progress: Progress | None
    ) -> Any:
        size = len(package) if isinstance(package, bytes) else package.stat().st_size
        headers = {"Content-Type": MEDIA_TYPE, "Content-Length": str(size)}
        response = self._calls.send(
            method,
            path,
            content=lambda: _chunks(package, progress),
            params=params,
            headers=headers,
            idempotent=True,  # the same bytes again are the existing version
        )
        return response.json()


class TokenEmbeddings(Packages):
    """The token embeddings: one of them, or `default`, is active."""

    def active(self) -> str:
        """The embedding that rows use when a request names none."""
        answer: answers.ActiveAnswer = self._calls.json("GET", f"{self._root}/active")
        return answer["name"]

    def set_active(self, name: str) -> None:
        """Make an embedding active; `default` is the backbone's own vocabulary."""
        self._calls.json("PUT", f"{self._root}/active", body={"name": name})


class Keys:
    """The keys of the caller's tenant."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    def create(self, scopes: Sequence[str], label: str = "") -> answers.NewKeyAnswer:
        """Make a key; the secret is in the answer and nowhere else."""
        body = {"scopes": list(scopes), "label": label}
        answer: answers.NewKeyAnswer = self._calls.json("POST", "/v1/keys", body=body)
        return answer

    def list(self) -> list[answers.KeyAnswer]:
        """Every key, revoked ones too."""
        answer: answers.KeyListAnswer = self._calls.json("GET", "/v1/keys")
        return answer["items"]

    def revoke(self, key_id: str) -> None:
        """Revoke a key."""
        self._calls.json("DELETE", f"/v1/keys/{quote(key_id, safe='')}")


def _if_match(revision: int | None) -> dict[str, str]:
    return {} if revision is None else {"If-Match": f'"{revision}"'}


def _chunks(package: Path | bytes, progress: Progress | None) -> Iterator[bytes]:
    sent = 0
    with io.BytesIO(package) if isinstance(package, bytes) else package.open("rb") as file:
        while chunk := file.read(_CHUNK):
            yield chunk
            sent += len(chunk)
            if progress is not None:
                progress(sent)
