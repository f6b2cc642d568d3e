"""The routes that adapters and token embeddings share: publish, list, show, alias, retire, and act on replicas.

A name may hold one `/`, so the path parameter `name` takes the rest of a path; where a version is meant, it takes a
selector as well (`name@3`). Verbs stand behind a `:`, which no name holds.
"""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Query
from pydantic import BaseModel, ConfigDict, Field, StrictInt
from starlette.requests import Request
from starlette.responses import FileResponse, Response

from adapters.refs import parse_alias, parse_name, parse_reference
from serving.api import answers
from serving.api.auth import require
from serving.api.body import StrictRoute
from serving.api.residents import joined, pinned_as, residents
from serving.api.services import Services
from serving.errors import BadRequest, Conflict, NotFound, ServiceError, UnsupportedMedia
from serving.registry.records import NameRecord, Resolved, Space
from serving.tenancy.keys import Caller

MEDIA_TYPE = "application/octet-stream"
BINARY = {"schema": {"type": "string", "format": "binary"}}
UPLOAD = {"openapi_extra": {"requestBody": {"required": True, "content": {MEDIA_TYPE: BINARY}}}}
PUBLISHED: dict[str, Any] = {
    "status_code": 201,
    "responses": {200: {"model": answers.PublishedAnswer, "description": "These bytes were a version already"}},
}
DOWNLOAD: dict[str, Any] = {
    "response_class": FileResponse,
    "responses": {200: {"description": "The bytes", "content": {MEDIA_TYPE: BINARY}}},
}
Reader = Annotated[Caller, Depends(require("predict", "publish", "operate"))]
Keeper = Annotated[Caller, Depends(require("publish", "operate"))]  # weights and audit are not the data plane's
PublisherKey = Annotated[Caller, Depends(require("publish"))]
Operator = Annotated[Caller, Depends(require("operate"))]
IfMatch = Annotated[str | None, Header(description="the revision (ETag) that the change is based on")]


class Strict(BaseModel):
    """A body or query in which unknown members are refused."""

    model_config = ConfigDict(extra="forbid")


class AliasBody(Strict):
    """Where an alias shall point."""

    version: StrictInt = Field(ge=1, examples=[4])


class PublishQuery(Strict):
    """How to publish."""

    promote: bool = Field(default=False, description="move the alias `prod` to this version")


class ListQuery(Strict):
    """Which page of names."""

    prefix: str = Field(default="", max_length=127)
    after: str = Field(default="", max_length=127, description="`next` of the page before")
    limit: int = Field(default=500, ge=1, le=1000)


@dataclass(frozen=True)
class Surface:
    """One namespace over HTTP: the calls behind the routes of `add_package_routes`."""

    services: Services
    space: Space
    root: str

    def page(self, caller: Caller, query: ListQuery, kind: str | None = None) -> tuple[list[NameRecord], str | None]:
        """The names of a page (of one kind), and where the next one starts."""
        names = self.services.directory.names(caller.tenant, self.space)
        found = [r for r in names if r.name.startswith(query.prefix) and r.name > query.after]
        found = [r for r in found if kind in (None, r.current.manifest.kind)]
        page = found[: query.limit]
        return page, page[-1].name if len(found) > len(page) else None

    async def find(self, caller: Caller, reference: str) -> tuple[NameRecord, Resolved]:
        """A name and the version that the reference means; raises `NotFound`."""
        parsed = parse_reference(reference)
        resolved = await self.services.directory.resolve(caller.tenant, self.space, parsed)
        for record in self.services.directory.names(caller.tenant, self.space):
            if record.name == parsed.name:
                return record, resolved
        raise NotFound(f"no {self.space} {parsed.name!r}", code=f"{self.space}_not_found")  # retired meanwhile

    async def publish(
        self,
        request: Request,
        response: Response,
        name: str,
        query: Annotated[PublishQuery, Query()],
        caller: PublisherKey,
    ) -> answers.PublishedAnswer:
        """Publish one native package (safetensors). The same bytes again are the existing version: 200."""
        call = self.services.control.publish
        body = upload(request)
        try:
            published = await call(caller, self.space, parse_name(name), body, promote=query.promote)
        except ServiceError as error:
            self.services.metrics.publishes.labels(str(error.status)).inc()
            raise
        ref = published.version.ref
        response.status_code = 201 if published.created else 200
        response.headers["location"] = f"{self.root}/{ref.name}@{ref.version}"
        self.services.metrics.publishes.labels(str(response.status_code)).inc()
        return answers.published_answer(published)

    async def validate(self, request: Request, name: str, caller: PublisherKey) -> answers.CheckAnswer:
        """The checks of a publish, storing nothing."""
        parse_name(name)
        return answers.check_answer(await self.services.control.validate(caller, self.space, upload(request)))

    async def show(self, response: Response, name: str, caller: Reader) -> answers.NameAnswer:
        """One name: its versions, its aliases, and the version that the reference means."""
        record, resolved = await self.find(caller, name)
        response.headers["etag"] = f'"{record.revision}"'
        return answers.name_answer(record, resolved)

    async def package(self, name: str, caller: Keeper) -> FileResponse:
        """The native package, as published."""
        _, resolved = await self.find(caller, name)
        ref = resolved.version.ref
        path = await self.services.control.blob(resolved)
        filename = f"{ref.name.replace('/', '_')}-{ref.version}.safetensors"
        return FileResponse(path, media_type=MEDIA_TYPE, filename=filename, headers={"etag": f'"{ref.digest}"'})

    async def history(self, name: str, caller: Keeper) -> answers.HistoryAnswer:
        """The audit of one name, newest first."""
        rows = await self.services.control.history(caller.tenant, self.space, parse_name(name))
        return {"items": [answers.event_answer(row) for row in rows]}

    async def set_alias(
        self,
        response: Response,
        name: str,
        alias: str,
        *,
        body: AliasBody,
        caller: PublisherKey,
        if_match: IfMatch = None,
    ) -> answers.NameAnswer:
        """Point an alias at a version: promote, roll back. Later requests on every gateway follow it."""
        record = await self.services.control.set_alias(
            caller, self.space, parse_name(name), parse_alias(alias), body.version, if_match=revision(if_match)
        )
        response.headers["etag"] = f'"{record.revision}"'
        return answers.name_answer(record)

    async def delete_alias(
        self, response: Response, name: str, alias: str, caller: PublisherKey, if_match: IfMatch = None
    ) -> answers.NameAnswer:
        """Remove an alias."""
        record = await self.services.control.delete_alias(
            caller, self.space, parse_name(name), parse_alias(alias), if_match=revision(if_match)
        )
        response.headers["etag"] = f'"{record.revision}"'
        return answers.name_answer(record)

    async def delete(self, name: str, caller: PublisherKey) -> None:
        """Retire a version (`name@3`) or a whole name; 409 where an alias, a pin or a target holds it."""
        parsed = parse_reference(name)
        if parsed.alias is not None or parsed.digest is not None:
            raise BadRequest(f"{name!r}: retire a version ({parsed.name}@1) or the whole name ({parsed.name})")
        going = [
            version.ref
            for record in self.services.directory.names(caller.tenant, self.space)
            for version in record.versions
            if record.name == parsed.name and parsed.version in (None, version.ref.version)
        ]
        await self.services.control.delete(caller, self.space, parsed.name, parsed.version)
        left = self.services.directory.names(caller.tenant, self.space)
        held = {version.ref.digest for record in left for version in record.versions}  # the same bytes, another name
        await self.services.fleet.retire([ref for ref in going if ref.digest not in held])

    async def preload(self, name: str, caller: Operator) -> answers.ReplicasAnswer:
        """Load a version on every replica; of a target, all that it is made of."""
        _, resolved = await self.find(caller, name)
        return _report("preload", resolved, await self._load(caller, resolved, pinned=False))

    async def unload(self, name: str, caller: Operator) -> answers.ReplicasAnswer:
        """Evict a version wherever no row uses it; 409 where a pin keeps it."""
        _, resolved = await self.find(caller, name)
        found = await residents(self.services.directory, caller.tenant, resolved)
        pins = dict.fromkeys(pin for item in found for pin in self._pinned_as(caller, item))
        if pins:
            raise Conflict(f"{' and '.join(pins)} is pinned: unpin it first", code="held")
        return _report("unload", resolved, joined([await self.services.fleet.unload(item) for item in found]))

    async def pin(self, name: str, caller: Operator) -> answers.ReplicasAnswer:
        """Keep a version resident on every replica; it can not be retired until it is unpinned."""
        resolved = await self._set_pin(name, caller, pinned=True)
        return _report("pin", resolved, await self._load(caller, resolved, pinned=True))

    async def unpin(self, name: str, caller: Operator) -> answers.ReplicasAnswer:
        """Let a version be retired again; every replica lets go of it now, or as soon as no row uses it."""
        resolved = await self._set_pin(name, caller, pinned=False)
        fleet, outcomes = self.services.fleet, []
        for item in await residents(self.services.directory, caller.tenant, resolved):
            if self._pinned_as(caller, item):  # the same bytes under another name: they stay
                outcomes.append(await fleet.preload(item, pinned=True))
            else:
                outcomes.append(await fleet.unload(item))
        return _report("unpin", resolved, joined(outcomes))

    async def _load(self, caller: Caller, resolved: Resolved, *, pinned: bool) -> dict[str, str]:
        found = await residents(self.services.directory, caller.tenant, resolved)
        return joined([await self.services.fleet.preload(item, pinned=pinned) for item in found])

    async def _set_pin(self, reference: str, caller: Caller, *, pinned: bool) -> Resolved:
        record, resolved = await self.find(caller, reference)
        version = resolved.version.ref.version
        await self.services.control.set_pin(caller, self.space, record.name, version, pinned=pinned)
        return resolved

    def _pinned_as(self, caller: Caller, resolved: Resolved) -> list[str]:
        return pinned_as(self.services.directory, caller.tenant, resolved.version.ref.digest)


def package_router(tag: str) -> APIRouter:
    """A router whose JSON bodies are read strictly."""
    return APIRouter(route_class=StrictRoute, tags=[tag])


def add_package_routes(router: APIRouter, surface: Surface) -> None:
    """Put the routes of one namespace on a router; the order decides where a path could mean two things."""
    root = surface.root
    table: tuple[tuple[str, str, Callable[..., Any], dict[str, Any]], ...] = (
        ("POST", "/{name:path}:validate", surface.validate, UPLOAD),
        ("POST", "/{name:path}:preload", surface.preload, {"status_code": 202}),
        ("POST", "/{name:path}:unload", surface.unload, {"status_code": 202}),
        ("POST", "/{name:path}:pin", surface.pin, {"status_code": 202}),
        ("POST", "/{name:path}:unpin", surface.unpin, {"status_code": 202}),
        ("GET", "/{name:path}:history", surface.history, {}),
        ("GET", "/{name:path}:package", surface.package, DOWNLOAD),
        ("PUT", "/{name:path}/aliases/{alias}", surface.set_alias, {}),
        ("DELETE", "/{name:path}/aliases/{alias}", surface.delete_alias, {}),
        ("GET", "/{name:path}", surface.show, {}),
        ("PUT", "/{name:path}", surface.publish, {**UPLOAD, **PUBLISHED}),
        ("DELETE", "/{name:path}", surface.delete, {"status_code": 204}),
    )
    for method, path, call, options in table:
        summary = (call.__doc__ or "").partition("\n")[0].rstrip(".")
        operation = f"{call.__name__}_{surface.space}"
        router.add_api_route(root + path, call, methods=[method], summary=summary, operation_id=operation, **options)


def upload(request: Request) -> AsyncIterator[bytes]:
    """The body as it arrives; raises `UnsupportedMedia` before a byte is read."""
    media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media not in {"", MEDIA_TYPE}:
        raise UnsupportedMedia(f"send the package as the body with Content-Type: {MEDIA_TYPE}, not {media}")
    encoding = request.headers.get("content-encoding", "identity").lower()
    if encoding != "identity":
        raise UnsupportedMedia(f"send the package without Content-Encoding, not {encoding}")
    return request.stream()


def revision(if_match: str | None) -> int | None:
    """The revision of an `If-Match` header, None for none or `*`; raises `BadRequest`."""
    if if_match is None or if_match.strip() == "*":
        return None
    tag = if_match.strip().removeprefix('"').removesuffix('"')
    if not (tag.isascii() and tag.isdigit() and len(tag) <= 18):
        raise BadRequest(
            f"If-Match {if_match!r} is no ETag of a name: send the one that GET gave", code="invalid_if_match"
        )
    return int(tag)


def _report(action: str, resolved: Resolved, outcomes: dict[str, str]) -> answers.ReplicasAnswer:
    ref = resolved.version.ref
    return {
        "name": ref.name,
        "version": ref.version,
        "digest": ref.digest,
        "action": action,
        "replicas": dict(sorted(outcomes.items())),
    }
