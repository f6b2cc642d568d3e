"""The routes that adapters and token embeddings share, in one table."""

from collections.abc import Callable
from typing import Any

from fastapi import APIRouter
from starlette.responses import FileResponse

from serving.api.acting import Acting
from serving.api.aliases import Aliases
from serving.api.gate import Gate
from serving.api.packages import MEDIA_TYPE, Surface
from serving.api.publishing import BINARY, PUBLISHED, UPLOAD, Publishing

DOWNLOAD: dict[str, Any] = {
    "response_class": FileResponse,
    "responses": {200: {"description": "The bytes", "content": {MEDIA_TYPE: BINARY}}},
}
ACCEPTED = {"status_code": 202}


def add_package_routes(router: APIRouter, surface: Surface) -> None:
    """Put the routes of one namespace on a router; the order decides where a path could mean two things."""
    publishing, aliases, acting = Publishing(surface), Aliases(surface, Gate(surface.services)), Acting(surface)
    table: tuple[tuple[str, str, Callable[..., Any], dict[str, Any]], ...] = (
        ("POST", "/{name:path}:validate", publishing.validate, UPLOAD),
        ("POST", "/{name:path}:preload", acting.preload, ACCEPTED),
        ("POST", "/{name:path}:unload", acting.unload, ACCEPTED),
        ("POST", "/{name:path}:pin", acting.pin, ACCEPTED),
        ("POST", "/{name:path}:unpin", acting.unpin, ACCEPTED),
        ("GET", "/{name:path}:history", surface.history, {}),
        ("GET", "/{name:path}:package", surface.package, DOWNLOAD),
        ("PUT", "/{name:path}/aliases/{alias}", aliases.set_alias, {}),
        ("DELETE", "/{name:path}/aliases/{alias}", aliases.delete_alias, {}),
        ("PUT", "/{name:path}@{version}/tags", publishing.set_tags, {}),  # a name may end in /tags, and holds no @
        ("GET", "/{name:path}", surface.show, {}),
        ("PUT", "/{name:path}", publishing.publish, {**UPLOAD, **PUBLISHED}),
        ("DELETE", "/{name:path}", publishing.delete, {"status_code": 204}),
    )
    for method, path, call, options in table:
        summary = (call.__doc__ or "").partition("\n")[0].rstrip(".")
        operation = f"{call.__name__}_{surface.space}"
        router.add_api_route(
            surface.root + path, call, methods=[method], summary=summary, operation_id=operation, **options
        )
