"""Where the registry of a data folder is, as its service noted it: `registry.json`, without secrets.

A folder may hold the database of before, which nobody writes to any more. What tends a folder without its service would
find that one first.
"""

import json
import os
from pathlib import Path

from sqlalchemy import make_url

from adapters.files import fsync_folder
from serving.errors import Conflict
from serving.registry.blobs.refusals import storing
from serving.registry.database import Database
from serving.registry.ownership import id_of

_NOTE = "registry.json"
_TOLD = ("host", "port")  # parameters of a URL that say where, and open nothing


def remember(data: Path, url: str, database: Database) -> None:
    """Note, durably, which registry a folder's service uses now; raises `NotReady` where the disk gives up."""
    parsed = make_url(url)
    shown = {name: value for name, value in parsed.query.items() if name in _TOLD}
    told = parsed.set(query=shown).render_as_string(hide_password=True)
    note, part = {"registry": id_of(database), "at": told}, data / f"{_NOTE}.part"
    with storing():
        with part.open("w", encoding="utf-8") as file:
            file.write(json.dumps(note) + "\n")
            file.flush()
            os.fsync(file.fileno())
        part.replace(data / _NOTE)
        fsync_folder(data)


def refuse_elsewhere(data: Path, database: Database) -> None:
    """Raise `Conflict` where the service of a folder uses another registry than this one."""
    with storing():
        try:
            told = json.loads((data / _NOTE).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return
    if told["registry"] != id_of(database):
        raise Conflict(
            f"the service of {data} has its registry at {told['at']}, and this is another one: name it with "
            "--database-url (CHORUS_DATABASE_URL)",
            code="other_registry",
        )
