"""What a tenant may publish: its names and bytes against its quota, in the transaction that would add to them."""

from sqlalchemy import func, select

from serving.errors import Conflict
from serving.registry.change import Change
from serving.registry.lookup import read_quota
from serving.registry.records import CheckReport
from serving.registry.tables import VERSIONS


def refuse_over_quota(change: Change, tenant: str, report: CheckReport, *, new_name: bool) -> None:
    """Raise `Conflict` where a new version would take the tenant over its names or bytes.

    Names are those that have a version, in both spaces; bytes count once per digest, however many names lead to them.
    """
    quota = read_quota(change.write.connection, tenant)
    if quota.adapters is not None and new_name:
        _refuse("names", _names(change, tenant), 1, quota.adapters)
    if quota.nbytes is not None:
        sizes = _sizes(change, tenant)
        if report.digest not in sizes:
            _refuse("bytes", sum(sizes.values()), report.nbytes, quota.nbytes)


def _refuse(noun: str, held: int, asked: int, allowed: int) -> None:
    if held + asked > allowed:
        told = f"the tenant holds {held} {noun} and asks for {asked} more, of {allowed} that its quota allows"
        raise Conflict(f"{told}: retire something, or have the quota raised", code="quota_exceeded")


def _names(change: Change, tenant: str) -> int:
    names = select(VERSIONS.c.space, VERSIONS.c.name).where(VERSIONS.c.tenant == tenant).distinct().subquery()
    count: int = change.execute(select(func.count()).select_from(names)).scalar_one()
    return count


def _sizes(change: Change, tenant: str) -> dict[str, int]:
    digests = select(VERSIONS.c.digest, VERSIONS.c.nbytes).where(VERSIONS.c.tenant == tenant).distinct()
    return {row.digest: row.nbytes for row in change.execute(digests)}
