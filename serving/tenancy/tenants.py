"""Tenants and what each may use: put by an administrator, followed by every gateway with the rest of the registry."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

from sqlalchemy import Connection, Row, func, insert, select, update

from serving.errors import Conflict, Fault, NotFound, Unprocessable
from serving.registry.catalog import Actor
from serving.registry.change import Change
from serving.registry.database import Database
from serving.registry.lookup import quota_of
from serving.registry.records import Quota, Tenant
from serving.registry.tables import KEYS, TENANTS, VERSIONS
from serving.tenancy.keys import refuse_bad_tenant

WEIGHTS = (0.001, 1000.0)  # a thousand to one either way
_RATES = ("requests_per_s", "cost_per_s")
_COUNTS = {"concurrency": 2**31 - 1, "adapters": 2**31 - 1}  # the largest value of each
_BYTES = {"nbytes": 2**53, "device_floor": 2**53, "device_ceiling": 2**53}  # what JSON carries exactly


class TenantStore:
    """The tenants that were named once. Methods are synchronous: call them from a thread."""

    def __init__(self, database: Database, clock: Callable[[], float] = time.time) -> None:
        self._database = database
        self._clock = clock

    def put(self, actor: Actor, name: str, quota: Quota) -> Tenant:
        """Name a tenant, or replace its quota; the same again changes nothing. Raises `Unprocessable`."""
        refuse_bad_tenant(name, "/name")
        refuse_bad_quota(quota)
        with self._change(actor) as change:
            row = _row(change.write.connection, name)
            known = None if row is None or row.deleted else row
            before = None if known is None else quota_of(known)
            if before != quota:
                created = change.at if known is None else known.created
                values = {**asdict(quota), "created": created, "deleted": False, "revision": change.revision}
                statement = insert(TENANTS) if row is None else update(TENANTS).where(TENANTS.c.name == name)
                change.execute(statement.values(name=name, **values))
                told = None if before is None else asdict(before)
                change.note((name, "tenant", name), "put_tenant", subject=name, before=told, after=asdict(quota))
            return _tenant(_present(change.write.connection, name))

    def get(self, name: str) -> Tenant:
        """A tenant; raises `NotFound` for one that was never put, whether or not it has keys."""
        with self._database.read() as connection:
            return _tenant(_present(connection, name))

    def all(self) -> tuple[Tenant, ...]:
        """Every tenant, by name."""
        query = select(TENANTS).where(TENANTS.c.deleted.is_(False))
        with self._database.read() as connection:
            found = [_tenant(row) for row in connection.execute(query)]
        return tuple(sorted(found, key=lambda tenant: tenant.name))  # in the order of no database's locale

    def delete(self, actor: Actor, name: str) -> None:
        """Forget a tenant, whose quota is the default again; raises `NotFound`, and `Conflict` while it has anything."""
        with self._change(actor) as change:
            row = _present(change.write.connection, name)
            if held := _held(change, name):
                told = f"the tenant {name!r} has {' and '.join(held)}: retire and revoke them first"
                raise Conflict(told, code="tenant_in_use")
            gone = update(TENANTS).where(TENANTS.c.name == name)
            change.execute(gone.values(deleted=True, revision=change.revision))
            change.note((name, "tenant", name), "delete_tenant", subject=name, before=asdict(quota_of(row)))

    @contextmanager
    def _change(self, actor: Actor) -> Iterator[Change]:
        with self._database.write() as write:
            yield Change(write, actor.key_id, self._clock())


def refuse_bad_quota(quota: Quota) -> None:
    """Raise `Unprocessable` with every field of a quota that makes no sense."""
    faults = []
    if not WEIGHTS[0] <= quota.weight <= WEIGHTS[1]:
        faults.append(Fault("/weight", f"weight is {WEIGHTS[0]:g} to {WEIGHTS[1]:g}"))
    for name in _RATES:
        value = getattr(quota, name)
        if value is not None and not (math.isfinite(value) and value > 0.0):
            faults.append(Fault(f"/{name}", f"{name} is above 0, or null for no limit"))
    for name, largest in {**_COUNTS, **_BYTES}.items():
        value = getattr(quota, name)
        if value is not None and not 0 <= value <= largest:
            faults.append(Fault(f"/{name}", f"{name} is 0 to {largest}"))
    if quota.device_ceiling is not None and quota.device_ceiling < quota.device_floor:
        faults.append(Fault("/device_ceiling", "device_ceiling is at least device_floor"))
    if faults:
        raise Unprocessable("; ".join(fault.detail for fault in faults), code="invalid_quota", faults=tuple(faults))


def _held(change: Change, name: str) -> list[str]:
    """What a tenant has, in words."""
    names = select(VERSIONS.c.space, VERSIONS.c.name).where(VERSIONS.c.tenant == name).distinct().subquery()
    published: int = change.execute(select(func.count()).select_from(names)).scalar_one()
    good = (KEYS.c.tenant == name, KEYS.c.revoked.is_(False), (KEYS.c.expires.is_(None)) | (KEYS.c.expires > change.at))
    keys: int = change.execute(select(func.count()).select_from(KEYS).where(*good)).scalar_one()
    return [f"{count} {noun}" for count, noun in ((published, "names"), (keys, "live keys")) if count]


def _row(connection: Connection, name: str) -> Row[Any] | None:
    """The row of a tenant, deleted or not."""
    return connection.execute(select(TENANTS).where(TENANTS.c.name == name)).one_or_none()


def _present(connection: Connection, name: str) -> Row[Any]:
    row = _row(connection, name)
    if row is None or row.deleted:
        raise NotFound(f"no tenant {name!r}", code="tenant_not_found")
    return row


def _tenant(row: Row[Any]) -> Tenant:
    return Tenant(row.name, quota_of(row), row.created, row.revision)
