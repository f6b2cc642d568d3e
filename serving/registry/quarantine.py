"""Bytes that were found to be lost or wrong: no version of theirs is served until they are published anew."""

from sqlalchemy import bindparam, delete, insert, select

from serving.registry.change import Change
from serving.registry.tables import QUARANTINE, VERSIONS

_REASON = select(QUARANTINE.c.reason).where(QUARANTINE.c.digest == bindparam("digest"))


def confine(change: Change, digest: str, reason: str) -> bool:
    """Put a digest in quarantine, whoever has names for it; False where it is there already."""
    if _reason(change, digest) is not None:
        return False
    change.execute(insert(QUARANTINE).values(digest=digest, reason=reason, at=change.at))
    _tell(change, digest, "quarantine", None, reason)
    return True


def lift(change: Change, digest: str, tenant: str | None = None) -> bool:
    """Let a digest out of quarantine; False where it was not there. Only `tenant` is told who did it."""
    reason = _reason(change, digest)
    if reason is None:
        return False
    change.execute(delete(QUARANTINE).where(QUARANTINE.c.digest == digest))
    _tell(change, digest, "lift", reason, None, tenant)
    return True


def _reason(change: Change, digest: str) -> str | None:
    reason: str | None = change.execute(_REASON, {"digest": digest}).scalar_one_or_none()
    return reason


def _tell(
    change: Change, digest: str, action: str, before: str | None, after: str | None, tenant: str | None = None
) -> None:
    """Every name that has these bytes changes; who else has them is nobody's business."""
    order = (VERSIONS.c.tenant, VERSIONS.c.space, VERSIONS.c.name, VERSIONS.c.version)
    for row in change.execute(select(*order).where(VERSIONS.c.digest == digest).order_by(*order)).all():
        teller = change if row.tenant == tenant else change.impersonal()
        teller.touch(
            (row.tenant, row.space, row.name),
            action,
            subject=f"{row.name}@{row.version}",
            detail=digest,
            before={"quarantined": before},
            after={"quarantined": after},
        )
