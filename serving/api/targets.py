"""`/v1/targets`: a stack, a vocabulary and a head under one versioned name, which a request may name as its adapters.

Targets are versions in the adapters' namespace. What they are made of is pinned by digest, and stays as long as they do.
"""

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import Field, WithJsonSchema
from starlette.requests import Request
from starlette.responses import Response

from adapters.composition import BLOCKS
from adapters.refs import parse_name
from serving.api import answers, target_answers
from serving.api.aliases import AliasBody, Aliases
from serving.api.assembling import TargetWish, assemble
from serving.api.gate import Gate
from serving.api.idempotency import Idempotent, once_with_body, outcome
from serving.api.packages import IfMatch, ListQuery, PublisherKey, Reader, Surface, package_router
from serving.api.publishing import PUBLISHED, Publishing, PublishQuery, TagsBody
from serving.api.resolving import Resolver
from serving.api.services import Services
from serving.api.strict import Strict
from serving.api.target_answers import CompositionAnswer
from serving.errors import NotFound
from serving.registry.records import NameRecord, Resolved
from serving.registry.targets import members_of
from serving.tenancy.keys import Caller

ROOT = "/v1/targets"
_SCHEMA: dict[str, Any] = {
    "description": "A composition: a reference or the short form `a+b~embedding`, a list (a stack, bottom first), "
    "or a block. Every fuse names its fusion package.",
    "anyOf": [
        {"type": "string", "examples": ["lang-sw@prod+sentiment@3~klingon"]},
        {"type": "array", "items": {}, "examples": [["lang-sw@prod", "sentiment@3"]]},
        {
            "type": "object",
            "properties": {name: {"type": "array", "items": {}} for name in BLOCKS},
            "examples": [{"fuse": ["mnli", "qqp"], "name": "mnli-qqp"}],
        },
    ],
}


class TargetBody(Strict):
    """What a target stands for."""

    adapters: Annotated[Any, WithJsonSchema(_SCHEMA)]
    embedding: str | None = Field(default=None, description="A token embedding, or `default` for the backbone's own.")
    head: str | None = Field(default=None, description="A package with a head; without it the top adapter's own.")


class _Targets:
    """The calls behind the routes."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._surface = Surface(services, "adapter", ROOT)
        self._publishing = Publishing(self._surface)
        self._aliases = Aliases(self._surface, Gate(services))

    async def find(self, caller: Caller, reference: str) -> tuple[NameRecord, Resolved]:
        """A target and the version that the reference means; another kind of package is as absent as none."""
        record, resolved = await self._surface.find(caller, reference)
        if resolved.version.manifest.target is None:
            raise NotFound(f"no target {record.name!r}: it is a package of adapters", code="target_not_found")
        return record, resolved

    async def list(self, query: Annotated[ListQuery, Query()], caller: Reader) -> target_answers.TargetListAnswer:
        """The tenant's targets, sorted by name, each with what its bare name stands for."""
        page, following = self._surface.page(caller, query, kind="target")
        items = [
            target_answers.target_summary_answer(record, await self.composition(caller, Resolved(record.current, None)))
            for record in page
        ]
        return {"items": items, "next": following}

    async def composition(self, caller: Caller, resolved: Resolved) -> CompositionAnswer:
        """What a target stands for; its members can not have been retired before it."""
        spec, directory = resolved.version.manifest.target, self._services.directory
        assert spec is not None
        found = [
            (role, await directory.resolve(caller.tenant, space, reference))
            for role, space, reference in members_of(spec)
        ]
        return target_answers.composition_answer(spec, found)

    async def show(self, response: Response, name: str, caller: Reader) -> target_answers.TargetNameAnswer:
        """One target: its versions, its aliases, and what the reference stands for."""
        record, resolved = await self.find(caller, name)
        response.headers["etag"] = f'"{record.revision}"'
        return target_answers.target_name_answer(record, resolved, await self.composition(caller, resolved))

    async def put(
        self,
        request: Request,
        response: Response,
        name: str,
        *,
        body: TargetBody,
        query: Annotated[PublishQuery, Query()],
        caller: PublisherKey,
        once: Idempotent,
    ) -> answers.PublishedAnswer:
        """Pin all that a composition names and keep it under one name; the same again is the existing version: 200."""
        parse_name(name)
        services, asked = self._services, await once_with_body(request, once)
        published = await services.control.recall(caller, asked)
        if published is None:  # else what its names mean now says nothing of what was put then
            wish = TargetWish(body.adapters, body.embedding, body.head)
            resolver = Resolver(caller.tenant, services.directory)
            target = await assemble(wish, resolver, services.profile.geometry)
            published = await services.control.publish_target(caller, name, target, promote=query.promote, once=asked)
        outcome(published, response, ROOT)
        return answers.published_answer(published)

    async def set_tags(
        self,
        response: Response,
        name: str,
        version: str,
        *,
        body: TagsBody,
        caller: PublisherKey,
        if_match: IfMatch = None,
    ) -> answers.NameAnswer:
        """Give a version of a target these tags and no others."""
        await self.find(caller, f"{name}@{version}")
        return await self._publishing.set_tags(response, name, version, body=body, caller=caller, if_match=if_match)

    async def set_alias(
        self,
        response: Response,
        name: str,
        alias: str,
        *,
        body: AliasBody,
        caller: PublisherKey,
        if_match: IfMatch = None,
    ) -> answers.MovedAnswer:
        """Point an alias at a version of a target: all that it stands for changes at once."""
        await self.find(caller, parse_name(name))
        return await self._aliases.set_alias(response, name, alias, body=body, caller=caller, if_match=if_match)

    async def delete_alias(
        self, response: Response, name: str, alias: str, caller: PublisherKey, if_match: IfMatch = None
    ) -> answers.NameAnswer:
        """Remove an alias of a target."""
        await self.find(caller, parse_name(name))
        return await self._aliases.delete_alias(response, name, alias, caller, if_match)

    async def delete(self, name: str, caller: PublisherKey) -> None:
        """Retire a version (`name@3`) or a whole target; what it was made of stays and may be retired now."""
        await self.find(caller, name)
        await self._publishing.delete(name, caller)


def routes(services: Services) -> APIRouter:
    """The routes of targets."""
    router, targets = package_router("targets"), _Targets(services)
    table: tuple[tuple[str, str, Callable[..., Any], dict[str, Any]], ...] = (
        ("GET", "", targets.list, {}),
        ("PUT", "/{name:path}/aliases/{alias}", targets.set_alias, {}),
        ("DELETE", "/{name:path}/aliases/{alias}", targets.delete_alias, {}),
        ("PUT", "/{name:path}@{version}/tags", targets.set_tags, {}),
        ("GET", "/{name:path}", targets.show, {}),
        ("PUT", "/{name:path}", targets.put, PUBLISHED),
        ("DELETE", "/{name:path}", targets.delete, {"status_code": 204}),
    )
    for method, path, call, options in table:
        summary = (call.__doc__ or "").partition("\n")[0].rstrip(".")
        operation = f"{call.__name__}_target"
        router.add_api_route(ROOT + path, call, methods=[method], summary=summary, operation_id=operation, **options)
    return router
