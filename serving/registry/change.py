"""An open write of the registry: whoever changes a row says so in the audit, in the same transaction."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import CursorResult, Executable, bindparam, insert, update

from adapters.manifest import from_json
from serving.logs import request_id
from serving.registry.absence import missing_name
from serving.registry.database import Write
from serving.registry.lookup import NameKey, ParseManifest, is_name, of, read_name
from serving.registry.records import NameRecord
from serving.registry.tables import AUDIT, NAMES

_TOUCH = update(NAMES).where(is_name(NAMES)).values(revision=bindparam("to"))
_NOTE = insert(AUDIT).inline()  # nobody asks for its number
SERVICE = "chorus"  # whom the audit names where nobody asked, or where nobody may know who did


@dataclass(frozen=True)
class Change:
    """What one actor writes at one time (UTC seconds); it is durable, and seen at `revision`, once it commits."""

    write: Write
    actor: str  # the id of a key, or whatever else the audit shall name
    at: float
    parse: ParseManifest = from_json
    traced: bool = True  # whether the audit names the request

    def impersonal(self) -> "Change":
        """The same change, for those who may not know whose it is."""
        return replace(self, actor=SERVICE, traced=False)

    @property
    def revision(self) -> int:
        """The registry's revision after this change."""
        return self.write.revision

    def execute(self, statement: Executable, values: Mapping[str, Any] | None = None) -> CursorResult[Any]:
        """Run a statement inside of the transaction, with the values that it has places for."""
        return self.write.connection.execute(statement, values)

    def name(self, key: NameKey) -> NameRecord | None:
        """A name as it stands now, or None where it has no version."""
        return read_name(self.write.connection, key, self.parse)

    def present(self, key: NameKey) -> NameRecord:
        """A name that has versions; raises `NotFound`."""
        record = self.name(key)
        if record is None:
            raise missing_name(key[1], key[2])
        return record

    def touch(
        self, key: NameKey, action: str, *, subject: str, detail: str = "", before: Any = None, after: Any = None
    ) -> None:
        """Let readers see that this name changed, and the audit who changed it."""
        self.execute(_TOUCH, {**of(key), "to": self.revision})
        self.note(key, action, subject=subject, detail=detail, before=before, after=after)

    def note(
        self,
        key: tuple[str, str, str],
        action: str,
        *,
        subject: str,
        detail: str = "",
        before: Any = None,
        after: Any = None,
    ) -> None:
        """A line of the audit; `key` is (tenant, space, name), and `before` and `after` are small JSON values."""
        row = {
            **columns(key),
            "at": self.at,
            "actor": self.actor,
            "action": action,
            "subject": subject,
            "detail": detail,
            "before": _told(before),
            "after": _told(after),
            "request_id": request_id() if self.traced else "",
        }
        self.execute(_NOTE, row)


def columns(key: tuple[str, str, str]) -> dict[str, str]:
    """The columns that a row of any table has in common with its name."""
    return dict(zip(("tenant", "space", "name"), key, strict=True))


def _told(value: Any) -> str:
    return "" if value is None else json.dumps(value, sort_keys=True, separators=(",", ":"))
