"""Who asks, and what the key may do: every path is closed unless it is in the one list of open paths.

`Authenticate` runs before routing, so that an unknown path without a key is a 401 as well; `require` checks the scope
at the route.
"""

from collections.abc import Awaitable, Callable

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from serving.api.services import Keyring
from serving.errors import Forbidden, Unauthenticated
from serving.tenancy.keys import SCOPES, Caller

OPEN_PATHS = frozenset({"/livez", "/readyz", "/openapi.json", "/docs"})


class Authenticate:
    """ASGI middleware: the bearer key becomes `scope["state"]["caller"]`, or the request ends here with a 401."""

    def __init__(self, app: ASGIApp, keyring: Keyring) -> None:
        self._app = app
        self._keyring = keyring

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let an open path or a known key through."""
        if scope["type"] != "lifespan" and scope["path"] not in OPEN_PATHS:
            caller = await self._keyring.authenticate(bearer(Headers(scope=scope)))
            scope.setdefault("state", {})["caller"] = caller
        await self._app(scope, receive, send)


def bearer(headers: Headers) -> str | None:
    """The token of `Authorization: Bearer ...`, None without the header; raises `Unauthenticated` if it is malformed."""
    values = headers.getlist("authorization")
    if not values:
        return None
    scheme, _, token = values[0].partition(" ")
    if len(values) > 1 or scheme.lower() != "bearer" or not token.strip():
        raise Unauthenticated("send one header 'Authorization: Bearer <key>'")
    return token.strip()


def require(*scopes: str) -> Callable[[Request], Awaitable[Caller]]:
    """A dependency that gives the `Caller` if its key has at least one of `scopes`; raises `Forbidden` naming them."""
    unknown = set(scopes) - SCOPES
    assert scopes, "a route asks for at least one scope"
    assert not unknown, f"unknown scopes {unknown}"

    async def caller(request: Request) -> Caller:
        found: Caller = request.scope["state"]["caller"]
        if found.scopes.isdisjoint(scopes):
            raise Forbidden(f"this needs a key with the scope {' or '.join(scopes)}")
        return found

    return caller
