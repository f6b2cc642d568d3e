"""Every route of the service, asked about what belongs to somebody else.

`asked` makes the same questions of any ids. With the ids of another tenant and with those of nobody they must get the
same answers, byte for byte, once the one id is written for the other.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass, field
from typing import Any

from loadtests.proofs.estates import Estate, Ids

NEW = "new-of-mine"  # a name that the asker does not have
VERBS = frozenset({"get", "put", "post", "delete", "patch", "head", "options"})
Fill = Mapping[str, str]


@dataclass(frozen=True)
class Ask:
    """One request; `operation` is the route's id in `/openapi.json`, `about` names the ids that it holds."""

    operation: str
    method: str
    path: str  # and query
    about: str
    body: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Route:
    """One operation of `/openapi.json`."""

    operation: str
    method: str
    path: str
    query: tuple[str, ...]
    once: bool  # takes an idempotency key
    compares: bool = False  # takes `If-Match`


def routes_of(document: Mapping[str, Any]) -> tuple[Route, ...]:
    """Every operation that the service tells of."""
    found = []
    for path, item in document["paths"].items():
        for method in sorted(VERBS & item.keys()):
            operation = item[method]
            fields = [(field["name"], field["in"]) for field in operation.get("parameters", ())]
            query = tuple(name for name, where in fields if where == "query")
            once, compares = (("idempotency-key", "header") in fields, ("if-match", "header") in fields)
            found.append(Route(operation["operationId"], method.upper(), path, query, once, compares))
    return tuple(found)


def unasked(routes: Sequence[Route]) -> list[str]:
    """Query parameters that nobody decided about: they may hold an id, and nobody asks about any."""
    known = FILLED.keys() | WITHOUT_ID.keys()
    return [f"{route.operation}?{name}" for route in routes for name in route.query if name not in known]


def asked(routes: Sequence[Route], ids: Ids, own: Estate) -> Iterator[Ask]:
    """Questions about `ids` that change nothing where these are not the asker's; the same number for any ids."""
    for route in routes:
        if route.operation not in CREATING:
            for about, fill in _fills(route, ids, own):
                for body in _bodies(route, own):
                    for query, headers in _variants(route, ids):
                        yield _ask(route, about + query.partition("=")[0], fill, body, query, headers)
        for about, body in _within(route, ids, own):
            yield _ask(route, about, {"name": NEW}, body)
        for about, query in _queries(route, ids):
            for body in _bodies(route, own):
                yield _ask(route, about, {}, body, query)


def plain(routes: Sequence[Route]) -> Iterator[Ask]:
    """Every route that needs no id, asked for the asker's own."""
    for route in routes:
        if "{" not in route.path and route.method == "GET":
            yield _ask(route, "nothing", {}, None)


def creating(routes: Sequence[Route], ids: Ids, own: Estate) -> Iterator[Ask]:
    """The asker publishes under names that somebody else has: each becomes the asker's own, as any new name does."""
    for route in routes:
        if route.operation not in CREATING:
            continue
        body = CREATING[route.operation](ids, own)
        media = {} if isinstance(body, bytes) else {"Content-Type": "application/json"}
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        for once in ("", ids.once):
            headers = {**media, **({"Idempotency-Key": once} if once else {})}
            name = {"adapter": ids.name, "target": ids.target, "embedding": ids.embedding}[_space(route)]
            path = route.path.replace("{name}", name)
            yield Ask(route.operation, route.method, path, f"name, once={bool(once)}", data, headers)


CREATING: Mapping[str, Callable[[Ids, Estate], Any]] = {
    "publish_adapter": lambda _, own: own.package,
    "put_target": lambda _, own: {"adapters": [own.mine]},
    "add_embedding": lambda ids, _: {"name": ids.embedding, "tokenizer": "{}", "reference_embedding": None},
    "publish_embedding": lambda _, own: own.package,
}
"""What is sent to the routes that make new names. An embedding is not made: its tokenizer or package is none."""


FILLED: Mapping[str, Callable[[Ids], str]] = {
    "tenant": lambda ids: ids.tenant,
    "prefix": lambda ids: ids.name,
    "after": lambda ids: ids.name,
    "name": lambda ids: ids.name,
}
"""Query parameters that hold an id."""
WITHOUT_ID: Mapping[str, str] = {
    "limit": "a number",
    "promote": "a switch",
    "input": "a text of the asker's own",
    "space": "a kind of names",
    "action": "a verb",
}
"""Query parameters that hold none, and what they hold."""


def _variants(route: Route, ids: Ids) -> Iterator[tuple[str, Mapping[str, str]]]:
    """Query and headers of a question whose path holds the id: as it is, as somebody else, and of a state that never was."""
    yield "", {}
    if "tenant" in route.query:
        yield f"?tenant={ids.tenant}", {}
    if route.compares:
        yield "", {"If-Match": '"0"'}


def _ask(
    route: Route, about: str, fill: Fill, body: Any, query: str = "", headers: Mapping[str, str] | None = None
) -> Ask:
    path = route.path
    for name, value in fill.items():
        path = path.replace(f"{{{name}}}", value)
    assert "{" not in path, f"{route.operation} has a parameter that nobody fills: {path}"
    sent = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    media = {} if body is None or isinstance(body, bytes) else {"Content-Type": "application/json"}
    return Ask(route.operation, route.method, path + query, about, sent, {**media, **(headers or {})})


def _space(route: Route) -> str:
    return "embedding" if "token-embeddings" in route.path else "target" if "/targets" in route.path else "adapter"


def _fills(route: Route, ids: Ids, own: Estate) -> Iterator[tuple[str, Fill]]:
    """What stands in the path: for a name, all that may stand for one."""
    if "{key_id}" in route.path:
        yield "key", {"key_id": ids.key_id}
    elif route.path.startswith("/v1/tenants/"):
        yield "tenant", {"name": ids.tenant}
    elif "{version}" in route.path:
        yield "name", {"name": _own_kind(route, ids), "version": "1"}
        yield "digest", {"name": own.mine, "version": ids.digest}
    elif "{alias}" in route.path:
        yield "name", {"name": _own_kind(route, ids), "alias": "prod"}
        yield "alias", {"name": _own_kind(route, ids), "alias": ids.alias}
    elif "{name}" in route.path:
        for name in (ids.name, ids.embedding, ids.target):
            yield "name", {"name": name}
        kind = _own_kind(route, ids)
        for selector in ("1", "prod", ids.alias, str(ids.retired), ids.digest):
            yield f"name@{_kind_of(selector)}", {"name": f"{kind}@{selector}"}
        if route.method != "DELETE":  # else it is the asker's own name that is to go
            yield "own@digest", {"name": f"{own.mine}@{ids.digest}"}
            yield "own@alias", {"name": f"{own.mine}@{ids.alias}"}


def _own_kind(route: Route, ids: Ids) -> str:
    return {"embedding": ids.embedding, "target": ids.target, "adapter": ids.name}[_space(route)]


def _kind_of(selector: str) -> str:
    return "digest" if selector.startswith("sha256:") else "version" if selector.isdigit() else "alias"


def _bodies(route: Route, own: Estate) -> Sequence[Any]:
    """What is sent with a path that holds the id."""
    if route.operation.startswith("validate_"):
        return (own.package,)
    if route.operation.startswith("set_alias_"):
        return ({"version": 1}, {"version": 1, "gate": True})
    if route.operation.startswith("set_tags_"):
        return ({"tags": {"mine": "now"}},)
    return (FIXED.get(route.operation),)


FIXED: Mapping[str, Any] = {
    "put_tenant": {"weight": 2.0},
    "create_key": {"scopes": ["predict"]},
    "rotate_key": {"grace_s": 1.0},
}


def _within(route: Route, ids: Ids, own: Estate) -> Iterator[tuple[str, Any]]:
    """Bodies that hold the id."""
    if route.operation.startswith("predict"):
        for about, wish in _wishes(ids, own):
            yield about, {"inputs": ["one frozen model"], **wish}
    elif route.operation == "put_target":
        yield from _wishes(ids, own)
    elif route.operation == "set_active_embedding":
        for name in (ids.embedding, ids.name):
            yield "name", {"name": name}
    elif route.operation == "add_embedding":
        for name in (ids.embedding, f"{ids.embedding}@1"):
            yield "reference", {"name": NEW, "tokenizer": "{}", "reference_embedding": name}


def _wishes(ids: Ids, own: Estate) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every place of a composition at which a name may stand."""
    mine = own.mine
    for name in (ids.name, f"{ids.name}@1", f"{ids.name}@prod", f"{ids.name}@{ids.digest}", ids.target, ids.embedding):
        yield "alone", {"adapters": name}
    for selected in (f"{mine}@{ids.digest}", f"{mine}@{ids.alias}"):
        yield "own@", {"adapters": selected}
    for block in (
        [ids.name, mine],
        {"stack": [mine, ids.name]},
        {"average": [mine, ids.name], "weights": [0.5, 0.5]},
        {"fuse": [mine, mine], "name": ids.name},
        {"fuse": [mine, ids.name], "name": mine},
        {"parallel": [mine, ids.name]},
        {"split": [mine, ids.name], "splits": [1, 1]},
        f"{mine}+{ids.name}~{ids.embedding}",
    ):
        yield "in a block", {"adapters": block}
    yield "embedding", {"adapters": [mine], "embedding": ids.embedding}
    yield "embedding@1", {"adapters": [mine], "embedding": f"{ids.embedding}@1"}
    yield "head", {"adapters": [mine], "head": ids.name}


def _queries(route: Route, ids: Ids) -> Iterator[tuple[str, str]]:
    if "{" in route.path:
        return
    for name in route.query:
        if name in FILLED and not (route.operation == "audit" and name == "after"):  # there a number
            yield f"?{name}", f"?{name}={FILLED[name](ids)}"


def renamed(ids: Ids, instead: Ids) -> dict[str, str]:
    """Every id as it stands in requests and answers, and what stands for it; the longest first."""
    pairs = zip(astuple(ids), astuple(instead), strict=True)
    texts = {old: new for old, new in pairs if isinstance(old, str) and old != new}
    return dict(sorted(texts.items(), key=lambda item: -len(item[0])))
