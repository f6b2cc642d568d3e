"""`/v1/keys`: an operator makes, lists, rotates and revokes the keys of the own tenant, an administrator anybody's."""

import time
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query
from pydantic import Field

from serving.api import answers
from serving.api.auth import require
from serving.api.packages import package_router
from serving.api.services import Services
from serving.api.strict import Strict
from serving.errors import Forbidden
from serving.tenancy.keys import Caller, KeyRecord, NewKey

LONGEST_S = 10 * 366 * 86_400.0
KeyMaster = Annotated[Caller, Depends(require("operate", "admin"))]


class TenantQuery(Strict):
    """Whose keys."""

    tenant: str | None = Field(default=None, max_length=64, description="one's own by default; others need `admin`")


class KeyBody(Strict):
    """What a new key may do, and for how long."""

    scopes: list[Literal["predict", "publish", "operate", "admin", "metrics"]] = Field(
        min_length=1, max_length=5, examples=[["predict"]]
    )
    label: str = Field(default="", max_length=200, examples=["web shop"])
    expires_in_s: float | None = Field(default=None, strict=True, gt=0.0, le=LONGEST_S, description="null is never")


class RotateBody(Strict):
    """How long the old key goes on."""

    grace_s: float = Field(
        default=3600.0, strict=True, ge=0.0, description="seconds for which the old key is still good"
    )


def routes(services: Services) -> APIRouter:
    """The routes of keys."""
    router = package_router("keys")
    keyring = services.keyring

    @router.post("/v1/keys", status_code=201, operation_id="create_key", summary="Make a key; its secret is told once")
    async def create_key(
        body: KeyBody, query: Annotated[TenantQuery, Query()], caller: KeyMaster
    ) -> answers.NewKeyAnswer:
        """Make a key; the secret is in this answer and nowhere else. A label has at most two live keys."""
        scopes, reach = frozenset[str](body.scopes), _reach(caller)
        if reach is not None and (beyond := scopes - reach):
            raise Forbidden(f"this key can not hand on what it may not do itself: {', '.join(sorted(beyond))}")
        expires = None if body.expires_in_s is None else time.time() + body.expires_in_s
        made = await keyring.create(_tenant(query, caller), scopes, body.label, expires=expires, by=caller.key_id)
        return _told(made)

    @router.get("/v1/keys", operation_id="list_keys", summary="The keys of a tenant, without secrets")
    async def list_keys(query: Annotated[TenantQuery, Query()], caller: KeyMaster) -> answers.KeyListAnswer:
        """The keys of a tenant, without secrets."""
        return {"items": [key_answer(record) for record in await keyring.keys(_tenant(query, caller))]}

    @router.post("/v1/keys/{key_id}:rotate", status_code=201, operation_id="rotate_key", summary="Replace a key")
    async def rotate_key(
        key_id: str, body: RotateBody, query: Annotated[TenantQuery, Query()], caller: KeyMaster
    ) -> answers.NewKeyAnswer:
        """Make a key with the scopes and label of another one, which expires after the grace.

        Whoever may not do all that the key may is refused: its successor's secret is in this answer.
        """
        tenant, reach = _tenant(query, caller), _reach(caller)
        return _told(await keyring.rotate(tenant, key_id, body.grace_s, by=caller.key_id, within=reach))

    @router.delete("/v1/keys/{key_id}", status_code=204, operation_id="revoke_key", summary="Revoke a key")
    async def revoke_key(key_id: str, query: Annotated[TenantQuery, Query()], caller: KeyMaster) -> None:
        """Revoke a key; it is refused everywhere within a second. Nobody revokes a key that may do more than the own."""
        await keyring.revoke(_tenant(query, caller), key_id, by=caller.key_id, within=_reach(caller))

    return router


def key_answer(record: KeyRecord) -> answers.KeyAnswer:
    """A key as JSON."""
    return {
        "key_id": record.key_id,
        "tenant": record.tenant,
        "scopes": sorted(record.scopes),
        "label": record.label,
        "created": answers.timestamp(record.created),
        "expires": None if record.expires is None else answers.timestamp(record.expires),
        "revoked": record.revoked,
    }


def _told(made: NewKey) -> answers.NewKeyAnswer:
    return {**key_answer(made.record), "secret": made.secret}


def _reach(caller: Caller) -> frozenset[str] | None:
    """The scopes that a key may have of which the caller disposes; None for any."""
    return None if "admin" in caller.scopes else caller.scopes


def _tenant(query: TenantQuery, caller: Caller) -> str:
    if query.tenant not in {None, caller.tenant} and "admin" not in caller.scopes:
        raise Forbidden("another tenant's keys need a key with the scope admin")
    return query.tenant or caller.tenant
