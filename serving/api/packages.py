"""What the routes of one namespace have in common: who may call them, and how a name becomes a version.

A name may hold one `/`, so the path parameter `name` takes the rest of a path; where a version is meant, it takes a
selector as well (`name@3`). Verbs stand behind a `:`, which no name holds.
"""

from dataclasses import dataclass
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Header
from pydantic import Field
from starlette.responses import FileResponse, Response

from adapters.refs import parse_name, parse_reference
from serving.api import answers
from serving.api.auth import require
from serving.api.body import StrictRoute
from serving.api.services import Services
from serving.api.strict import Strict
from serving.errors import BadRequest, NotFound
from serving.registry.records import NameRecord, Resolved, Space, owner_of
from serving.tenancy.keys import Caller

MEDIA_TYPE = "application/octet-stream"
Reader = Annotated[Caller, Depends(require("predict", "publish", "operate"))]
Keeper = Annotated[Caller, Depends(require("publish", "operate"))]  # weights and audit are not the data plane's
PublisherKey = Annotated[Caller, Depends(require("publish"))]
Operator = Annotated[Caller, Depends(require("operate"))]
IfMatch = Annotated[str | None, Header(description="the revision (ETag) that the change is based on")]


class ListQuery(Strict):
    """Which page of names."""

    prefix: str = Field(default="", max_length=127)
    after: str = Field(default="", max_length=127, description="`next` of the page before")
    limit: int = Field(default=500, ge=1, le=1000)
    tenant: Literal["public"] | None = Field(default=None, description="the names that everyone may use, not one's own")


@dataclass(frozen=True)
class Surface:
    """One namespace over HTTP: its names, and the calls that read one."""

    services: Services
    space: Space
    root: str

    def page(self, caller: Caller, query: ListQuery, kind: str | None = None) -> tuple[list[NameRecord], str | None]:
        """The names of a page (of one kind), and where the next one starts."""
        names = self.services.directory.names(query.tenant or caller.tenant, self.space)
        found = [r for r in names if r.name.startswith(query.prefix) and r.name > query.after]
        found = [r for r in found if kind in (None, r.current.manifest.kind)]
        page = found[: query.limit]
        return page, page[-1].name if len(found) > len(page) else None

    async def find(self, caller: Caller, reference: str) -> tuple[NameRecord, Resolved]:
        """A name and the version that the reference means; raises `NotFound`."""
        parsed = parse_reference(reference)
        resolved = await self.services.directory.resolve(caller.tenant, self.space, parsed)
        for record in self.services.directory.names(owner_of(caller.tenant, parsed.name), self.space):
            if record.name == parsed.name:
                return record, resolved
        raise NotFound(f"no {self.space} {parsed.name!r}", code=f"{self.space}_not_found")  # retired meanwhile

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


def package_router(tag: str) -> APIRouter:
    """A router whose JSON bodies are read strictly."""
    return APIRouter(route_class=StrictRoute, tags=[tag])


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
