"""`/v1/keys`: an operator makes, lists and revokes the keys of the own tenant."""

from typing import Literal

from fastapi import APIRouter
from pydantic import Field

from serving.api import answers
from serving.api.packages import Operator, Strict, package_router
from serving.api.services import Services
from serving.errors import Forbidden
from serving.tenancy.keys import KeyRecord


class KeyBody(Strict):
    """What a new key may do."""

    scopes: list[Literal["predict", "publish", "operate"]] = Field(min_length=1, max_length=3, examples=[["predict"]])
    label: str = Field(default="", max_length=200, examples=["web shop"])


def routes(services: Services) -> APIRouter:
    """The routes of keys."""
    router = package_router("keys")

    @router.post("/v1/keys", status_code=201, operation_id="create_key", summary="Make a key; its secret is told once")
    async def create_key(body: KeyBody, caller: Operator) -> answers.NewKeyAnswer:
        """Make a key for the caller's tenant; the secret is in this answer and nowhere else."""
        scopes = frozenset[str](body.scopes)
        beyond = scopes - caller.scopes
        if beyond:
            raise Forbidden(f"this key can not hand on what it may not do itself: {', '.join(sorted(beyond))}")
        made = await services.keyring.create(caller.tenant, scopes, body.label)
        return {**key_answer(made.record), "secret": made.secret}

    @router.get("/v1/keys", operation_id="list_keys", summary="The keys of the tenant, without secrets")
    async def list_keys(caller: Operator) -> answers.KeyListAnswer:
        """The keys of the caller's tenant, without secrets."""
        return {"items": [key_answer(record) for record in await services.keyring.keys(caller.tenant)]}

    @router.delete("/v1/keys/{key_id}", status_code=204, operation_id="revoke_key", summary="Revoke a key")
    async def revoke_key(key_id: str, caller: Operator) -> None:
        """Revoke a key; it is refused everywhere within a second."""
        await services.keyring.revoke(caller.tenant, key_id)

    return router


def key_answer(record: KeyRecord) -> answers.KeyAnswer:
    """A key as JSON."""
    return {
        "key_id": record.key_id,
        "tenant": record.tenant,
        "scopes": sorted(record.scopes),
        "label": record.label,
        "created": answers.timestamp(record.created),
        "revoked": record.revoked,
    }
