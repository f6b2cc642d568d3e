"""What changes the versions of a name: publish and its dry run, tags, retire."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Query
from pydantic import Field, StrictStr
from starlette.requests import Request
from starlette.responses import Response

from adapters.refs import parse_name, parse_reference
from serving.api import answers
from serving.api.idempotency import Idempotent, outcome
from serving.api.inspection_answers import InspectionAnswer, inspection_answer, outlook_of
from serving.api.packages import MEDIA_TYPE, IfMatch, PublisherKey, Surface, revision
from serving.api.residents import SPACES
from serving.api.strict import Strict
from serving.errors import BadRequest, ServiceError, UnsupportedMedia
from serving.registry.inspection import SAMPLE
from serving.registry.records import Resolved
from serving.tenancy.keys import Caller

BINARY = {"schema": {"type": "string", "format": "binary"}}
UPLOAD = {"openapi_extra": {"requestBody": {"required": True, "content": {MEDIA_TYPE: BINARY}}}}
PUBLISHED: dict[str, Any] = {
    "status_code": 201,
    "responses": {200: {"model": answers.PublishedAnswer, "description": "These bytes were a version already"}},
}


class PublishQuery(Strict):
    """How to publish."""

    promote: bool = Field(default=False, description="move the alias `prod` to this version")


class TrialQuery(Strict):
    """What to try the package on."""

    input: str = Field(default=SAMPLE, min_length=1, max_length=2000, description="the reference input")


class TagsBody(Strict):
    """What a version is to be known by."""

    tags: dict[str, StrictStr] = Field(examples=[{"owner": "search", "dataset": "2026-05"}])


@dataclass(frozen=True)
class Publishing:
    """The writes of one namespace."""

    surface: Surface

    async def publish(
        self,
        request: Request,
        response: Response,
        name: str,
        *,
        query: Annotated[PublishQuery, Query()],
        caller: PublisherKey,
        once: Idempotent,
    ) -> answers.PublishedAnswer:
        """Publish one native package (safetensors). The same bytes again are the existing version: 200."""
        services, space = self.surface.services, self.surface.space
        body = upload(request)
        try:
            with services.metrics.publish_seconds.time():
                published = await services.control.publish(
                    caller, space, parse_name(name), body, promote=query.promote, once=once
                )
        except ServiceError as error:
            services.metrics.publishes.labels(str(error.status)).inc()
            raise
        outcome(published, response, self.surface.root)
        services.metrics.publishes.labels(str(response.status_code)).inc()
        return answers.published_answer(published)

    async def validate(
        self, request: Request, name: str, query: Annotated[TrialQuery, Query()], caller: PublisherKey
    ) -> InspectionAnswer:
        """The checks of a publish and an answer to a reference input, storing nothing; and what a publish would do."""
        control, directory, space = self.surface.services.control, self.surface.services.directory, self.surface.space
        found = await control.inspect(caller, space, parse_name(name), upload(request), query.input)
        stones = await control.retired(caller.tenant, space, name)
        held = [record for each in SPACES for record in directory.names(caller.tenant, each)]
        last = max((stone.version for stone in stones), default=0)
        return inspection_answer(name, found, outlook_of(name, found, held, last, directory.quota(caller.tenant)))

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
        """Give a version these tags and no others; its bytes and its number stay what they are."""
        wanted, asked = parse_reference(f"{name}@{version}"), revision(if_match)
        _, resolved = await self.surface.find(caller, str(wanted))
        number = resolved.version.ref.version
        control, space = self.surface.services.control, self.surface.space
        record = await control.set_tags(caller, space, wanted.name, number, body.tags, if_match=asked)
        response.headers["etag"] = f'"{record.revision}"'
        chosen = next(item for item in record.versions if item.ref.version == number)
        return answers.name_answer(record, Resolved(chosen, resolved.resolved_from))

    async def delete(self, name: str, caller: PublisherKey) -> None:
        """Retire a version (`name@3`) or a whole name; 409 where an alias, a pin or a target holds it."""
        parsed = parse_reference(name)
        if parsed.alias is not None or parsed.digest is not None:
            raise BadRequest(f"{name!r}: retire a version ({parsed.name}@1) or the whole name ({parsed.name})")
        services, space = self.surface.services, self.surface.space
        going = [
            version.ref
            for record in services.directory.names(caller.tenant, space)
            for version in record.versions
            if record.name == parsed.name and parsed.version in (None, version.ref.version)
        ]
        await services.control.delete(caller, space, parsed.name, parsed.version)
        held = _digests(self.surface, caller)  # the same bytes, under another name
        await services.fleet.retire([ref for ref in going if ref.digest not in held])


def upload(request: Request) -> AsyncIterator[bytes]:
    """The body as it arrives; raises `UnsupportedMedia` before a byte is read."""
    media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media not in {"", MEDIA_TYPE}:
        raise UnsupportedMedia(f"send the package as the body with Content-Type: {MEDIA_TYPE}, not {media}")
    encoding = request.headers.get("content-encoding", "identity").lower()
    if encoding != "identity":
        raise UnsupportedMedia(f"send the package without Content-Encoding, not {encoding}")
    return request.stream()


def _digests(surface: Surface, caller: Caller) -> set[str]:
    records = surface.services.directory.names(caller.tenant, surface.space)
    return {version.ref.digest for record in records for version in record.versions}
