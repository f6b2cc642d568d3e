"""Names and references: what a client may call an adapter, and what a name is pinned to.

A *name* is `segment` or `segment/segment`. A *reference* is a name with an optional selector:
`name`, `name@7` (version), `name@prod` (alias) or `name@sha256:<64 hex>` (digest).
"""

import re
from dataclasses import dataclass

from adapters.errors import InvalidName

_SEGMENT = r"[a-z0-9](?:[a-z0-9._-]{0,61}[a-z0-9])?"
_NAME = re.compile(rf"{_SEGMENT}(?:/{_SEGMENT})?")
_ALIAS = re.compile(_SEGMENT)
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
RESERVED_NAMES = frozenset({"base"})
RESERVED_SECOND_SEGMENTS = frozenset({"aliases", "versions"})


@dataclass(frozen=True, slots=True)
class Reference:
    """What a client wrote: a name, and at most one of version, alias and digest."""

    name: str
    version: int | None = None
    alias: str | None = None
    digest: str | None = None

    def __str__(self) -> str:
        selector = self.digest or self.alias or (None if self.version is None else str(self.version))
        return self.name if selector is None else f"{self.name}@{selector}"


@dataclass(frozen=True, slots=True)
class AdapterRef:
    """A pinned name: from here on a hot swap cannot touch it. Token embeddings and heads use it as well."""

    tenant: str
    name: str
    version: int
    digest: str  # "sha256:<64 hex>" of the native package

    @property
    def key(self) -> tuple[str, str]:
        """The identity in every cache: (tenant, digest), never a name alone."""
        return (self.tenant, self.digest)

    def __str__(self) -> str:
        return f"{self.tenant}:{self.name}@{self.version}"


def parse_name(text: str) -> str:
    """Check a name for publishing; raises `InvalidName` with the rule that it breaks."""
    if not isinstance(text, str) or not _NAME.fullmatch(text):
        raise InvalidName(
            f"{text!r} is not a name: use 'segment' or 'segment/segment' of a-z 0-9 . _ - (at most 63 characters each)"
        )
    if text in RESERVED_NAMES:
        raise InvalidName(f"{text!r} is reserved for the bare backbone")
    if "/" in text and text.split("/")[1] in RESERVED_SECOND_SEGMENTS:
        raise InvalidName(f"{text!r}: the second segment {text.split('/')[1]!r} is reserved")
    return text


def parse_alias(text: str) -> str:
    """Check an alias; all digits (a version) and `sha256:...` (a digest) are refused."""
    if not isinstance(text, str) or not _ALIAS.fullmatch(text):
        raise InvalidName(f"{text!r} is not an alias: use a-z 0-9 . _ - (at most 63 characters)")
    if text.isdigit():
        raise InvalidName(f"alias {text!r} is all digits, which would read as a version")
    return text


def parse_reference(text: str) -> Reference:
    """Parse `name`, `name@7`, `name@alias` or `name@sha256:...`; raises `InvalidName`."""
    if not isinstance(text, str):
        raise InvalidName(f"a reference is a string, not {type(text).__name__}")
    name, at, selector = text.partition("@")
    parse_name(name)
    if not at:
        return Reference(name)
    if selector.startswith("sha256:"):
        if not _DIGEST.fullmatch(selector):
            raise InvalidName(f"{selector!r} is not a digest: sha256: and 64 lower-case hex digits")
        return Reference(name, digest=selector)
    if selector.isascii() and selector.isdigit():
        if len(selector) > 9 or int(selector) < 1:
            raise InvalidName(f"{selector!r} is not a version: versions count from 1")
        return Reference(name, version=int(selector))
    return Reference(name, alias=parse_alias(selector))
