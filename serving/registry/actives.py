"""The vocabulary that a tenant's rows are read with where nothing names another."""

from sqlalchemy import delete, func, insert, select

from serving.registry.change import Change
from serving.registry.records import DEFAULT_EMBEDDING
from serving.registry.tables import ACTIVE_EMBEDDINGS


def activate(change: Change, tenant: str, name: str | None) -> None:
    """Make a token embedding the tenant's active one; None is the backbone's own. The same again changes nothing."""
    row = change.execute(select(ACTIVE_EMBEDDINGS.c.name).where(ACTIVE_EMBEDDINGS.c.tenant == tenant)).one_or_none()
    was = None if row is None else row.name
    if was == name:
        return
    change.execute(delete(ACTIVE_EMBEDDINGS).where(ACTIVE_EMBEDDINGS.c.tenant == tenant))
    change.execute(insert(ACTIVE_EMBEDDINGS).values(tenant=tenant, name=name, revision=change.revision))
    before, after = was or DEFAULT_EMBEDDING, name or DEFAULT_EMBEDDING
    key = (tenant, "embedding", after)
    change.note(key, "activate", subject=after, before={"active": before}, after={"active": after})


def deactivate(change: Change, tenant: str, name: str) -> None:
    """Make the backbone's own vocabulary active where this one was."""
    active = select(ACTIVE_EMBEDDINGS.c.name).where(ACTIVE_EMBEDDINGS.c.tenant == tenant)
    if change.execute(active).scalar_one_or_none() == name:
        activate(change, tenant, None)


def others_with(change: Change, tenant: str, name: str) -> int:
    """How many other tenants have this one active."""
    held = (ACTIVE_EMBEDDINGS.c.name == name, ACTIVE_EMBEDDINGS.c.tenant != tenant)
    count: int = change.execute(select(func.count()).select_from(ACTIVE_EMBEDDINGS).where(*held)).scalar_one()
    return count
