"""What a tenant has left, on every answer to a prediction: the fields `RateLimit-Policy` and `RateLimit`.

Structured fields (RFC 9651) as in draft-ietf-httpapi-ratelimit-headers-10: `q` units in a window of `w` seconds, `qu` the
unit where it is not a request, `r` units left, `t` seconds until all of them are there again. The numbers are those of all
gateways together, as far as this one can tell.
"""

from collections.abc import Sequence

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.tenancy.admission import Admission
from serving.tenancy.meters import Standing

PATH = "/v1/predict"


class QuotaFields:
    """ASGI middleware: refusals carry the fields as well, from the moment that it is known who asks."""

    def __init__(self, app: ASGIApp, door: Admission) -> None:
        self._app = app
        self._door = door

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Add the fields to what is answered under the path of predictions."""
        if scope["type"] != "http" or scope["path"] != PATH:
            await self._app(scope, receive, send)
            return

        async def told(message: Message) -> None:
            caller = scope["state"].get("caller")
            if message["type"] == "http.response.start" and caller is not None:
                standings = self._door.standings(caller.tenant)
                if standings:
                    headers = MutableHeaders(scope=message)
                    headers["ratelimit-policy"] = policy(standings)
                    headers["ratelimit"] = state(standings)
            await send(message)

        await self._app(scope, receive, told)


def policy(standings: Sequence[Standing]) -> str:
    """The value of `RateLimit-Policy`: what does not change from answer to answer."""
    return ", ".join(
        f'"{item.name}";q={item.quota}'
        + (f";w={item.window_s}" if item.window_s is not None else "")
        + (f';qu="{item.unit}"' if item.unit != "requests" else "")
        for item in standings
    )


def state(standings: Sequence[Standing]) -> str:
    """The value of `RateLimit`: what is left now."""
    return ", ".join(
        f'"{item.name}";r={item.remaining}' + (f";t={item.reset_s}" if item.reset_s is not None else "")
        for item in standings
    )
