"""Names to pinned packages of the kind that their place asks for; every refusal points to the name in the body."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from adapters.errors import InvalidName
from adapters.refs import AdapterRef, Reference, parse_reference
from serving.api.services import Directory
from serving.errors import ServiceError, Unprocessable
from serving.registry.records import Resolved, Space

DEFAULT_EMBEDDING = "default"
_REMEDIES = {
    "head": "name it as `head`",
    "fusion": 'name it beside what it fuses: {"fuse": [...], "name": ...}',
    "target": "it stands for a whole composition, so name it alone",
}


@dataclass(frozen=True)
class Resolver:
    """The names of one tenant."""

    tenant: str
    directory: Directory

    async def pin(self, space: Space, reference: Reference, pointer: str) -> Resolved:
        """The version; a refusal says where in the body the name stands."""
        try:
            return await self.directory.resolve(self.tenant, space, reference)
        except ServiceError as error:
            raise type(error)(
                error.detail, code=error.code, pointer=pointer, faults=error.faults, retry_after=error.retry_after
            ) from error

    async def adapter(self, reference: Reference, pointer: str) -> Resolved:
        """An adapter; raises `Unprocessable` with the remedy for a package of another kind."""
        found = await self.pin("adapter", reference, pointer)
        kind = found.version.manifest.kind
        if kind != "adapter":
            remedy = _REMEDIES.get(kind, "it can not act in a composition")
            detail = f"{reference} is a package of kind {kind}: {remedy}"
            raise Unprocessable(detail, code="wrong_kind", pointer=pointer)
        return found

    async def fusion(self, reference: Reference, pointer: str, arms: int) -> Resolved:
        """A fusion made for so many adapters; raises `Unprocessable`."""
        found = await self.pin("adapter", reference, pointer)
        manifest = found.version.manifest
        if manifest.kind != "fusion":
            detail = f"{reference} is a package of kind {manifest.kind}: `name` is that of a fusion package"
            raise Unprocessable(detail, code="wrong_kind", pointer=pointer)
        if len(manifest.children) != arms:
            made = f"{len(manifest.children)} ({', '.join(manifest.children)})"
            detail = f"{reference} fuses {made}, and here are {arms}"
            raise Unprocessable(detail, code="wrong_fusion", pointer=pointer)
        return found

    async def head(self, text: str, pointer: str) -> Resolved:
        """A package that holds a head; raises `Unprocessable` for one that does not."""
        head = await self.pin("adapter", self.reference(text, pointer), pointer)
        if head.version.manifest.head is None:
            raise Unprocessable(f"{text} holds no head", code="no_head", pointer=pointer)
        return head

    async def embedding(self, text: str, pointer: str) -> Resolved | None:
        """A token embedding; None for the backbone's own vocabulary."""
        return (
            None if text == DEFAULT_EMBEDDING else await self.pin("embedding", self.reference(text, pointer), pointer)
        )

    async def wanted_embedding(self, packages: Sequence[Resolved]) -> Resolved | None:
        """The vocabulary that packages were trained on, else the tenant's active one, else the backbone's own.

        Raises `Unprocessable` where packages were trained on different ones.
        """
        wanted: dict[str, AdapterRef] = {}
        for package in packages:
            if package.version.manifest.requires.embedding is not None:
                wanted[package.version.manifest.requires.embedding] = package.version.ref
        if len(wanted) > 1:
            raise _contradiction(wanted)
        if wanted:
            return await self.embedding(next(iter(wanted)), "/adapters")
        active = self.directory.active_embedding(self.tenant)
        return None if active is None else await self.embedding(active, "/embedding")

    def reference(self, text: str, pointer: str) -> Reference:
        """A name as written; raises `Unprocessable`."""
        try:
            return parse_reference(text)
        except InvalidName as error:
            raise Unprocessable(str(error), code="invalid_name", pointer=pointer) from error


def _contradiction(wanted: Mapping[str, AdapterRef]) -> Unprocessable:
    pairs = ", ".join(f"{ref.name} needs {name}" for name, ref in wanted.items())
    detail = f"the packages were made for different vocabularies ({pairs}): name one as `embedding`"
    return Unprocessable(detail, code="contradicting_embeddings", pointer="/embedding")
