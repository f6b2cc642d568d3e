"""`/v1/token-embeddings`: named vocabularies, and which of them rows use when a request names none.

`default` is the backbone's own vocabulary: it is always listed, can be made active, and can not be published or
deleted.
"""

from typing import Annotated

from fastapi import APIRouter, Depends, Query
from pydantic import Field
from starlette.responses import Response

from adapters.refs import parse_name
from serving.api import answers
from serving.api.auth import require
from serving.api.packages import (
    ListQuery,
    PublisherKey,
    Reader,
    Strict,
    Surface,
    add_package_routes,
    package_router,
)
from serving.api.services import Services
from serving.errors import Conflict

ROOT = "/v1/token-embeddings"
DEFAULT = f"{ROOT}/{answers.DEFAULT_EMBEDDING}"
READER = [Depends(require("predict", "publish", "operate"))]
PUBLISHER = [Depends(require("publish"))]


class ActiveBody(Strict):
    """Which token embedding shall be active."""

    name: str = Field(examples=["klingon", answers.DEFAULT_EMBEDDING])


def routes(services: Services) -> APIRouter:
    """The routes of the namespace `embedding`."""
    router, surface = package_router("token embeddings"), Surface(services, "embedding", ROOT)

    def active(tenant: str) -> str:
        return services.directory.active_embedding(tenant) or answers.DEFAULT_EMBEDDING

    @router.get(ROOT, operation_id="list_embedding", summary="The tenant's token embeddings, and which one is active")
    async def list_embeddings(query: Annotated[ListQuery, Query()], caller: Reader) -> answers.EmbeddingListAnswer:
        """The tenant's token embeddings, and which one is active; `default` comes first."""
        page, following = surface.page(caller, query)
        items = [answers.summary_answer(record) for record in page]
        if not query.after and answers.DEFAULT_EMBEDDING.startswith(query.prefix):
            items.insert(0, answers.default_embedding_summary())
        return {"items": items, "next": following, "active": active(caller.tenant)}

    @router.get(f"{ROOT}/active", operation_id="get_active_embedding", summary="The active token embedding")
    async def get_active(caller: Reader) -> answers.ActiveAnswer:
        """The active token embedding."""
        return {"name": active(caller.tenant)}

    @router.put(f"{ROOT}/active", operation_id="set_active_embedding", summary="Make a token embedding active")
    async def set_active(body: ActiveBody, caller: PublisherKey) -> answers.ActiveAnswer:
        """Make a token embedding active; `default` is the backbone's own."""
        name = parse_name(body.name)
        chosen = None if name == answers.DEFAULT_EMBEDDING else name
        await services.control.set_active_embedding(caller, chosen)
        return {"name": name}

    @router.get(
        DEFAULT, operation_id="show_default_embedding", summary="The backbone's own vocabulary", dependencies=READER
    )
    async def show_default(response: Response) -> answers.NameAnswer:
        """The backbone's own vocabulary."""
        response.headers["etag"] = '"0"'
        return answers.default_embedding()

    @router.put(DEFAULT, include_in_schema=False, dependencies=PUBLISHER)
    @router.delete(DEFAULT, include_in_schema=False, dependencies=PUBLISHER)
    async def keep_default() -> None:
        """Nothing replaces or deletes the backbone's own vocabulary."""
        raise Conflict("'default' is the backbone's own vocabulary: it stays as it is", code="default_embedding")

    add_package_routes(router, surface)
    return router
