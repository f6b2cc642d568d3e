"""`/v1/token-embeddings`: named vocabularies, and which of them rows use when a request names none.

`default` is the backbone's own vocabulary: it is always listed, can be made active, and can not be published or
deleted. A backbone of images has none: there every route is a 409.
"""

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query
from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from adapters.errors import InvalidName
from adapters.refs import parse_name, parse_reference
from serving.api import answers
from serving.api.auth import require
from serving.api.idempotency import Idempotent, once_with_body, outcome
from serving.api.package_routes import add_package_routes
from serving.api.packages import ListQuery, PublisherKey, Reader, Surface, package_router
from serving.api.publishing import UPLOAD
from serving.api.services import Control, Directory, Services
from serving.api.strict import Strict
from serving.errors import Conflict, Fault, NotFound, Unprocessable, from_library
from serving.registry.records import Extension
from serving.tenancy.keys import Caller

ROOT = "/v1/token-embeddings"
DEFAULT = f"{ROOT}/{answers.DEFAULT_EMBEDDING}"
READER = [Depends(require("predict", "publish", "operate"))]
PUBLISHER = [Depends(require("publish"))]


_Text = Annotated[str, Field(min_length=1)]


class ActiveBody(Strict):
    """Which token embedding shall be active."""

    name: str = Field(examples=["klingon", answers.DEFAULT_EMBEDDING])


class NewEmbeddingBody(Strict):
    """A vocabulary to make a matrix for."""

    name: str = Field(examples=["klingon"])
    tokenizer: dict[str, Any] | _Text = Field(description="`tokenizer.json`, as an object or as its text.")
    reference_embedding: str | None = Field(
        default=None,
        description="Rows of tokens whose string this embedding knows as well are copied from it (`default` is the "
        "backbone's own); without it every row is drawn.",
    )
    reference_tokenizer: dict[str, Any] | _Text | None = Field(
        default=None, description="What names the reference's rows; without it the reference's own tokenizer."
    )
    seed: int = Field(default=0, ge=0, lt=1 << 63, description="Of the draw N(0, 0.02).")
    activate: bool = Field(default=True, description="Make it the active one, as AdapterHub does.")


def routes(services: Services) -> APIRouter:
    """The routes of the namespace `embedding`."""
    router, surface = package_router("token embeddings"), Surface(services, "embedding", ROOT)
    if services.profile.geometry.image is not None:
        router.dependencies.append(Depends(_no_vocabulary))

    def active(tenant: str) -> str:
        return services.directory.active_embedding(tenant) or answers.DEFAULT_EMBEDDING

    @router.get(ROOT, operation_id="list_embedding", summary="The tenant's token embeddings, and which one is active")
    async def list_embeddings(query: Annotated[ListQuery, Query()], caller: Reader) -> answers.EmbeddingListAnswer:
        """The tenant's token embeddings, and which one is active; `default` comes first."""
        page, following = surface.page(caller, query)
        items = [answers.summary_answer(record) for record in page]
        if not query.after and not query.tenant and answers.DEFAULT_EMBEDDING.startswith(query.prefix):
            items.insert(0, answers.default_embedding_summary())
        return {"items": items, "next": following, "active": active(caller.tenant)}

    @router.post(ROOT, status_code=201, operation_id="add_embedding", summary="Make the embedding of a new vocabulary")
    async def add(
        request: Request, body: NewEmbeddingBody, response: Response, caller: PublisherKey, once: Idempotent
    ) -> answers.PublishedAnswer:
        """Make and publish the embedding of a new vocabulary (AdapterHub's `add_embeddings`); a taken name is a 409."""
        name, asked = _new_name(body.name), await once_with_body(request, once)
        published = await services.control.recall(caller, asked)
        if published is None:  # else it was made before: the name is taken by it
            extension = await _extension(body, services.directory, caller.tenant)
            with _pointing_at_the_tokenizer(body):
                published = await services.control.extend(caller, name, extension, activate=body.activate, once=asked)
        outcome(published, response, ROOT)
        return answers.published_answer(published)

    @router.get(f"{ROOT}/active", operation_id="get_active_embedding", summary="The active token embedding")
    async def get_active(caller: Reader) -> answers.ActiveAnswer:
        """The active token embedding."""
        return {"name": active(caller.tenant)}

    @router.put(f"{ROOT}/active", operation_id="set_active_embedding", summary="Make a token embedding active")
    async def set_active(body: ActiveBody, caller: PublisherKey) -> answers.ActiveAnswer:
        """Make a token embedding active; `default` is the backbone's own."""
        return {"name": await _activate(services.control, caller, _named(body.name))}

    @router.get(
        DEFAULT, operation_id="show_default_embedding", summary="The backbone's own vocabulary", dependencies=READER
    )
    async def show_default(response: Response) -> answers.NameAnswer:
        """The backbone's own vocabulary."""
        response.headers["etag"] = '"0"'
        return answers.default_embedding()

    @router.put(DEFAULT, include_in_schema=False, dependencies=PUBLISHER, openapi_extra=UPLOAD["openapi_extra"])
    @router.delete(DEFAULT, include_in_schema=False, dependencies=PUBLISHER)
    async def keep_default() -> None:
        """Nothing replaces or deletes the backbone's own vocabulary."""
        raise Conflict("'default' is the backbone's own vocabulary: it stays as it is", code="default_embedding")

    add_package_routes(router, surface)
    return router


async def _no_vocabulary() -> None:
    raise Conflict("the backbone reads images, and has no vocabulary", code="no_vocabulary")


async def _activate(control: Control, caller: Caller, name: str) -> str:
    try:
        await control.set_active_embedding(caller, None if name == answers.DEFAULT_EMBEDDING else name)
    except NotFound as error:
        raise NotFound(error.detail, code=error.code, pointer="/name") from error
    return name


@contextmanager
def _pointing_at_the_tokenizer(body: NewEmbeddingBody) -> Iterator[None]:
    """What does not fit is the tokenizer, where the body brings no other one."""
    try:
        yield
    except Unprocessable as error:
        if error.code != "does_not_fit" or body.reference_tokenizer is not None:
            raise
        reasons = [fault.detail for fault in error.faults] or [error.detail]
        faults = tuple(Fault("/tokenizer", reason) for reason in reasons)
        raise Unprocessable(error.detail, code=error.code, faults=faults) from error


def _new_name(name: str) -> str:
    if name == answers.DEFAULT_EMBEDDING:
        raise Conflict("'default' is the backbone's own vocabulary: take another name", code="default_embedding")
    if name == "active":
        raise Unprocessable("'active' is the path of the active embedding: take another name", pointer="/name")
    return _named(name)


def _named(name: str) -> str:
    try:
        return parse_name(name)
    except InvalidName as error:
        raise from_library(error, "/name") from error


async def _extension(body: NewEmbeddingBody, directory: Directory, tenant: str) -> Extension:
    """The body with its reference resolved; raises `Unprocessable`, or `NotFound` for the reference."""
    named, reference = body.reference_embedding, None
    if named is None and body.reference_tokenizer is not None:
        detail = "a reference tokenizer names the rows of a reference embedding: give both or neither"
        raise Unprocessable(detail, code="half_reference", pointer="/reference_embedding")
    if named is not None and named != answers.DEFAULT_EMBEDDING:
        pointer = "/reference_embedding"
        try:
            reference = await directory.resolve(tenant, "embedding", parse_reference(named))
        except InvalidName as error:
            raise Unprocessable(str(error), code="invalid_name", pointer=pointer) from error
        except NotFound as error:
            raise NotFound(error.detail, code=error.code, pointer=pointer) from error
    own, theirs = await asyncio.gather(_bytes(body.tokenizer), _bytes(body.reference_tokenizer))
    assert own is not None
    return Extension(own, named is not None, reference, theirs, body.seed)


async def _bytes(tokenizer: dict[str, Any] | str | None) -> bytes | None:
    """The bytes of a tokenizer.json; a text keeps its own."""
    if tokenizer is None or isinstance(tokenizer, str):
        return None if tokenizer is None else tokenizer.encode()
    text = await asyncio.to_thread(json.dumps, tokenizer, ensure_ascii=False, separators=(",", ":"))
    return text.encode()
