"""The client's view of what is published: adapters, targets, token embeddings and keys, one class per namespace.

Every write that publishes carries an `Idempotency-Key`, so that a call which is sent again gets the first one's answer.
"""

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote
from uuid import uuid4

from adapters.refs import parse_alias, parse_name, parse_reference
from serving.api import answers, target_answers
from serving.api.inspection_answers import InspectionAnswer
from serving.api.residency_answers import ReplicasAnswer
from serving.calls import Calls

MEDIA_TYPE = "application/octet-stream"
_CHUNK = 1 << 20
Action = Literal["preload", "unload", "pin", "unpin"]
Progress = Callable[[int], None]


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
        answer: answers.NameAnswer = self._calls.json("GET", _at(self._root, reference))
        return answer

    def history(self, name: str) -> list[answers.EventAnswer]:
        """The audit of one name, newest first."""
        answer: answers.HistoryAnswer = self._calls.json("GET", _at(self._root, name) + ":history")
        return answer["items"]

    def publish(
        self,
        name: str,
        package: Path | bytes,
        *,
        promote: bool = False,
        key: str | None = None,
        progress: Progress | None = None,
    ) -> answers.PublishedAnswer:
        """Publish one native package; a file is streamed, and `progress` is told the bytes sent so far.

        `key` is the Idempotency-Key of a call that another process may send again; None makes one.
        """
        path = f"{self._root}/{quote(parse_name(name))}"
        params = {"promote": "true"} if promote else {}
        answer: answers.PublishedAnswer = self._upload(
            "PUT", path, package, params=params, headers=_once(key), progress=progress
        )
        return answer

    def validate(
        self, name: str, package: Path | bytes, *, text: str | None = None, progress: Progress | None = None
    ) -> InspectionAnswer:
        """A dry run: the checks of `publish`, and what the package answers to a text, storing nothing."""
        path = f"{self._root}/{quote(parse_name(name))}:validate"
        params = {} if text is None else {"input": text}
        answer: InspectionAnswer = self._upload("POST", path, package, params=params, headers={}, progress=progress)
        return answer

    def set_tags(
        self, name: str, version: int, tags: Mapping[str, str], *, if_match: int | None = None
    ) -> answers.NameAnswer:
        """Give a version these tags and no others; with `if_match`, only if the name's revision is still that one."""
        answer: answers.NameAnswer = self._calls.json(
            "PUT",
            f"{self._root}/{quote(parse_name(name))}@{version}/tags",
            body={"tags": dict(tags)},
            headers=_if_match(if_match),
            idempotent=if_match is None,  # as for an alias
        )
        return answer

    def fetch(self, reference: str, target: Path) -> int:
        """Write the native package to `target`, which is whole or as it was; the number of bytes."""
        part = target.with_name(f"{target.name}.part")
        try:
            with self._calls.download(_at(self._root, reference) + ":package") as chunks, part.open("wb") as file:
                nbytes = sum(file.write(chunk) for chunk in chunks)
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)
        return nbytes

    def delete(self, reference: str) -> None:
        """Retire a version (`name@3`), or the whole name."""
        self._calls.json("DELETE", _at(self._root, reference))

    def set_alias(
        self,
        name: str,
        alias: str,
        version: int,
        *,
        if_match: int | None = None,
        gate: bool | Mapping[str, Any] = False,
    ) -> answers.MovedAnswer:
        """Point an alias at a version; with `if_match`, only if the name's revision is still that one.

        `gate` (`{"input", "parameters"}`, or True) has every engine load the version and one answer with it first.
        """
        body = {"version": version, "gate": gate if isinstance(gate, bool) else dict(gate)}
        answer: answers.MovedAnswer = self._calls.json(
            "PUT",
            self._alias(name, alias),
            body=body,
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

    def act(self, reference: str, action: Action) -> ReplicasAnswer:
        """Preload, unload, pin or unpin a version on every replica."""
        path = f"{_at(self._root, reference)}:{action}"
        answer: ReplicasAnswer = self._calls.json("POST", path, idempotent=True)
        return answer

    def _alias(self, name: str, alias: str) -> str:
        return f"{self._root}/{quote(parse_name(name))}/aliases/{quote(parse_alias(alias))}"

    def _upload(
        self,
        method: str,
        path: str,
        package: Path | bytes,
        *,
        params: Mapping[str, str],
        headers: Mapping[str, str],
        progress: Progress | None,
    ) -> Any:
        size = len(package) if isinstance(package, bytes) else package.stat().st_size
        response = self._calls.send(
            method,
            path,
            content=lambda: _chunks(package, progress),
            params=params,
            headers={"Content-Type": MEDIA_TYPE, "Content-Length": str(size), **headers},
            idempotent=True,  # the same bytes again are the existing version
        )
        return response.json()


class Targets:
    """Stacks with their vocabulary and head under one versioned name; aliases are those of the adapters' namespace."""

    def __init__(self, calls: Calls, root: str) -> None:
        self._calls = calls
        self._root = root

    def put(
        self,
        name: str,
        adapters: str | Sequence[Any] | Mapping[str, Any],
        *,
        embedding: str | None = None,
        head: str | None = None,
        promote: bool = False,
        key: str | None = None,
    ) -> answers.PublishedAnswer:
        """Keep a composition under a name, all of it pinned; the same again is the existing version."""
        body = {"adapters": adapters, "embedding": embedding, "head": head}
        path = f"{self._root}/{quote(parse_name(name))}"
        params = {"promote": "true"} if promote else {}
        answer: answers.PublishedAnswer = self._calls.json("PUT", path, body=body, params=params, headers=_once(key))
        return answer

    def names(self, prefix: str = "") -> list[target_answers.TargetSummaryAnswer]:
        """Every target whose name starts with `prefix`, sorted."""
        found: list[target_answers.TargetSummaryAnswer] = []
        after: str | None = ""
        while after is not None:
            params = {"prefix": prefix, "after": after}
            page: target_answers.TargetListAnswer = self._calls.json("GET", self._root, params=params)
            found.extend(page["items"])
            after = page["next"]
        return found

    def show(self, reference: str) -> target_answers.TargetNameAnswer:
        """One target whole, and what the reference stands for."""
        answer: target_answers.TargetNameAnswer = self._calls.json("GET", _at(self._root, reference))
        return answer

    def delete(self, reference: str) -> None:
        """Retire a version (`name@3`), or the whole target; what it was made of stays."""
        self._calls.json("DELETE", _at(self._root, reference))


class TokenEmbeddings(Packages):
    """The token embeddings: one of them, or `default`, is active."""

    def add(
        self,
        name: str,
        tokenizer: str | Mapping[str, Any],
        *,
        reference_embedding: str | None = None,
        reference_tokenizer: str | Mapping[str, Any] | None = None,
        seed: int = 0,
        activate: bool = True,
        key: str | None = None,
    ) -> answers.PublishedAnswer:
        """Make the embedding of a new vocabulary (`tokenizer.json`, its text or its value) and make it active.

        Rows of tokens that the reference knows as well are copied, the others drawn. A taken name is a `Conflict`.
        """
        body = {
            "name": name,
            "tokenizer": tokenizer,
            "reference_embedding": reference_embedding,
            "reference_tokenizer": reference_tokenizer,
            "seed": seed,
            "activate": activate,
        }
        answer: answers.PublishedAnswer = self._calls.json(
            "POST", self._root, body=body, headers=_once(key), idempotent=True
        )
        return answer

    def active(self) -> str:
        """The embedding that rows use when a request names none."""
        answer: answers.ActiveAnswer = self._calls.json("GET", f"{self._root}/active")
        return answer["name"]

    def set_active(self, name: str) -> None:
        """Make an embedding active; `default` is the backbone's own vocabulary."""
        self._calls.json("PUT", f"{self._root}/active", body={"name": name})


def _at(root: str, reference: str) -> str:
    """The path of what a reference means, below the root of its namespace."""
    return f"{root}/{quote(str(parse_reference(reference)), safe='/@:')}"


def _once(key: str | None) -> dict[str, str]:
    return {"Idempotency-Key": key or uuid4().hex}


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
