"""The ASGI application: every surface in one list, and what a request passes on its way in in another."""

import time

from fastapi import Depends
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware

from serving.api import (
    adapters,
    audit,
    health,
    keys,
    limits,
    openapi,
    predict,
    residency,
    targets,
    tenants,
    token_embeddings,
    watching,
)
from serving.api.auth import Authenticate
from serving.api.characters import Characters
from serving.api.fields import only_what_is_read
from serving.api.middleware import AccessLog, BodyCap, LoopbackOnly, RequestId
from serving.api.problems import Problems, raise_again
from serving.api.quotas import QuotaFields
from serving.api.schemas import row_tokens
from serving.api.services import Services
from serving.api.shortcut import Shortcut
from serving.api.traced import Traced
from serving.tenancy.admission import Admission, Scale

API_VERSION = "1.0"
DESCRIPTION = (
    "One frozen backbone, many voices: every request names the adapters that answer it. "
    "Refusals are application/problem+json (RFC 9457)."
)
SURFACES = (adapters, targets, token_embeddings, residency, watching, keys, tenants, audit, limits, health)


def build_app(services: Services) -> openapi.Application:
    """The whole HTTP surface over `services`; it starts nothing and owns no connection."""
    door = _door(services)
    predictions = predict.routes(services, door)
    (route,) = predictions.routes
    assert isinstance(route, APIRoute), "predictions are one route"
    app = openapi.Application(
        title="Chorus",
        version=API_VERSION,
        description=DESCRIPTION,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        dependencies=[Depends(only_what_is_read)],
        exception_handlers={HTTPException: raise_again, RequestValidationError: raise_again},
        middleware=[  # outermost first: what is refused early still has an id, a log line and a problem body
            Middleware(RequestId),
            Middleware(Traced, tracing=services.tracing),
            Middleware(AccessLog, metrics=services.metrics),
            Middleware(QuotaFields, door=door),
            Middleware(Problems, metrics=services.metrics),
            Middleware(LoopbackOnly, keyring=services.keyring),
            Middleware(Authenticate, keyring=services.keyring),
            Middleware(Characters),
            Middleware(BodyCap, limits=services.limits, images=services.profile.geometry.image is not None),
            Middleware(Shortcut, route=route, answer=route.endpoint, limits=services.limits),
        ],
    )
    app.include_router(predictions)
    for surface in SURFACES:
        app.include_router(surface.routes(services))
    app.include_router(openapi.routes())
    return app


def _door(services: Services) -> Admission:
    geometry = services.profile.geometry
    return Admission(
        Scale(geometry.layers, row_tokens(services.limits, geometry)),
        quota=services.directory.quota,
        gateways=services.fleet.gateways,
        holdings=services.fleet.holdings,
        clock=time.monotonic,
    )
