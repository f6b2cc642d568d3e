"""What a request may not bring: a query field that its route does not take, and a body where none is read.

Whoever writes `DELETE /v1/adapters/tone?dry_run=true` must not find out by the loss that nobody read it.
"""

from difflib import get_close_matches
from typing import Any

from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from pydantic import BaseModel
from starlette.requests import Request

from serving.errors import BadRequest, Fault, Unprocessable

_COMPARED_CHARACTERS = 40


async def only_what_is_read(request: Request) -> None:
    """A dependency of every route; raises `Unprocessable` for the query, `BadRequest` for the body."""
    route: APIRoute = request.scope["route"]
    if request.scope["query_string"]:
        _refuse_fields(route, list(request.query_params))
    if not _takes_body(route) and await _brings_body(request):
        raise BadRequest(f"{request.method} {route.path_format} takes no body", code="unexpected_body")


def taken(dependant: Dependant) -> list[str]:
    """The query fields of a route and of all that it depends on."""
    own = [name for param in dependant.query_params for name in _members(param.field_info.annotation) or [param.alias]]
    return own + [name for below in dependant.dependencies for name in taken(below)]


def _refuse_fields(route: APIRoute, names: list[str]) -> None:
    known, body = taken(route.dependant), route.body_field
    members = [] if body is None else _members(body.field_info.annotation)
    told = [f"query parameter {name}: {_remedy(name, known, members)}" for name in names if name not in known]
    if told:
        faults = tuple(Fault("", detail) for detail in told)
        raise Unprocessable("; ".join(told[:5]), code="invalid_value", faults=faults)


def _remedy(name: str, known: list[str], members: list[str]) -> str:
    if name in members:
        return "it is a member of the body"
    if not known:
        return "there is none of this name, nor any other here"
    near = get_close_matches(name[:_COMPARED_CHARACTERS], known, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return f"there is none of this name; {hint}there are {', '.join(known)}"


def _members(annotation: Any) -> list[str]:
    """The members of a parameter that is a model; none of any other."""
    is_model = isinstance(annotation, type) and issubclass(annotation, BaseModel)
    return list(annotation.model_fields) if is_model else []


def _takes_body(route: APIRoute) -> bool:
    return route.body_field is not None or "requestBody" in (route.openapi_extra or {})


async def _brings_body(request: Request) -> bool:
    """By the headers; what comes without a length is looked at, for some clients send an empty body in chunks."""
    if "transfer-encoding" not in request.headers:
        return request.headers.get("content-length", "0") != "0"
    async for chunk in request.stream():
        if chunk:
            return True
    return False
