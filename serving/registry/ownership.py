"""Whose bytes lie in a blob store: it notes the registry that serves them, and no other one may collect there.

Two registries can share digests, and a forgotten one looks like any other: a folder that began with SQLite and went on
with PostgreSQL, or a backup that was restored beside the original to try it.
"""

import logging

from sqlalchemy import select

from serving.errors import Conflict, NotReady
from serving.logs import log
from serving.registry.blobs.store import Blobs
from serving.registry.database import Database
from serving.registry.tables import ORIGIN


def id_of(database: Database) -> str:
    """The id of a registry: 32 hex digits, made with its database, and no part of a backup."""
    with database.read() as connection:
        found: str = connection.execute(select(ORIGIN.c.registry)).scalar_one()
    return found


def claim(database: Database, blobs: Blobs) -> None:
    """Note whose a store is, where nobody has yet: what the start of a service does.

    Nothing is refused here. A store that does not answer is asked at the next start; until then nothing is collected.
    """
    registry = id_of(database)
    try:
        owner = blobs.owner()
        if owner is None:
            blobs.claim(registry)
        elif owner != registry:
            told = "the blob store belongs to another registry: nothing is collected from here"
            log("registry", told, level=logging.WARNING, owner=owner, registry=registry)
    except NotReady as error:
        log("registry", "the blob store could not be claimed", level=logging.WARNING, why=error.detail)


def refuse_foreign(database: Database, blobs: Blobs) -> None:
    """Raise `Conflict` where a store belongs to another registry, or to nobody yet."""
    owner, registry = blobs.owner(), id_of(database)
    if owner is None:
        raise Conflict(
            "no registry has claimed these blobs yet: start the service once, which does, "
            "or say --unknown where you are certain that they are this registry's",
            code="other_registry",
        )
    if owner != registry:
        raise Conflict(
            f"these blobs belong to the registry {owner}, and this is {registry}: name theirs with --database-url; "
            "--unknown makes them this one's, and removes what it does not know",
            code="other_registry",
        )
