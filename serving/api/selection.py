"""What a request names, pinned: members, head, vocabulary and task, each resolved for the caller's tenant.

From here on a hot swap can not touch the request: every name has become a version and a digest.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from adapters.architectures.profile import Geometry
from adapters.composition import Composition, Stack, parse, parse_target, runnable_stack
from adapters.errors import AdapterError, InvalidName
from adapters.manifest import HeadSpec
from adapters.refs import AdapterRef, Reference, parse_reference
from serving.api.schemas import PredictRequest
from serving.api.services import Directory
from serving.errors import Fault, ServiceError, Unprocessable, from_library
from serving.registry.records import Resolved, Space
from serving.tasks.table import FEATURES, TASKS, task_of
from serving.tasks.task import Task

DEFAULT_EMBEDDING = "default"


@dataclass(frozen=True)
class Selection:
    """What runs. `head` is None for feature extraction, `embedding` None for the backbone's own vocabulary."""

    task: Task
    members: tuple[Resolved, ...]
    skip_layers: frozenset[int]
    head: Resolved | None
    embedding: Resolved | None

    @property
    def head_spec(self) -> HeadSpec | None:
        """The head's description."""
        return None if self.head is None else self.head.version.manifest.head

    @property
    def inserted(self) -> int:
        """Tokens that prompt tuning adds to every row: only the first member's prompt counts (AdapterHub's rule)."""
        parts = self.members[0].version.manifest.parts if self.members else ()
        return sum(int(part.config["length"]) for part in parts if part.method == "prompt_tuning")

    @property
    def packages(self) -> tuple[Resolved, ...]:
        """Members, head and embedding."""
        return (*self.members, *(held for held in (self.head, self.embedding) if held is not None))


async def select(request: PredictRequest, tenant: str, directory: Directory, geometry: Geometry) -> Selection:
    """Resolve all that the request names; raises `NotFound`, `NotReady` or `Unprocessable` with a pointer to the name."""
    named = _Named(request)
    if any(layer >= geometry.layers for layer in named.composition.skip_layers):
        detail = f"skip_layers: the backbone has the layers 0 to {geometry.layers - 1}"
        raise Unprocessable(detail, code="invalid_composition", pointer="/adapters/skip_layers")
    resolver = _Resolver(tenant, directory)
    members = []
    for reference, pointer in named.members:
        member = await resolver.pin("adapter", reference, pointer)
        kind = member.version.manifest.kind
        if kind != "adapter":
            remedy = "name it as `head`" if kind == "head" else "it can not be a member of a stack yet"
            raise Unprocessable(
                f"{reference} is a package of kind {kind}: {remedy}", code="wrong_kind", pointer=pointer
            )
        members.append(member)
    head = await _head(request, members, resolver)
    task = _task(request, head)
    if task is FEATURES:
        head = None
    embedding = await _embedding(request, named, (*members, *([head] if head else [])), resolver)
    return Selection(task, tuple(members), named.composition.skip_layers, head, embedding)


class _Named:
    """The names as written, each with its pointer."""

    def __init__(self, request: PredictRequest) -> None:
        raw = request.adapters
        self.embedding: Reference | None = None
        if raw is None and request.task != FEATURES.name:
            detail = f"name the adapters; [] is the bare backbone (only {FEATURES.name} may leave them out)"
            raise Unprocessable(detail, code="missing_adapters", pointer="/adapters")
        try:
            if isinstance(raw, str):
                self.composition, self.embedding = parse_target(raw)
            else:
                self.composition = Composition(Stack(())) if raw is None else parse(raw)
            leaves = runnable_stack(self.composition)
        except AdapterError as error:
            refusal = from_library(error, "/adapters")
            refusal.faults = tuple(Fault(_as_written(raw, fault.pointer), fault.detail) for fault in refusal.faults)
            raise refusal from error
        self.members: list[tuple[Reference, str]] = []
        for i, leaf in enumerate(leaves):
            assert isinstance(leaf.ref, Reference)
            self.members.append((leaf.ref, _member_pointer(raw, i)))


@dataclass(frozen=True)
class _Resolver:
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

    async def pin_text(self, space: Space, text: str, pointer: str) -> Resolved:
        return await self.pin(space, _reference(text, pointer), pointer)


async def _head(request: PredictRequest, members: list[Resolved], resolver: _Resolver) -> Resolved | None:
    if request.head is not None:
        head = await resolver.pin_text("adapter", request.head, "/head")
        if head.version.manifest.head is None:
            raise Unprocessable(f"{request.head} holds no head", code="no_head", pointer="/head")
        return head
    if members and members[-1].version.manifest.head is not None:
        return members[-1]
    if members and request.task != FEATURES.name:
        detail = f"{members[-1].version.ref.name} has no head: name one as `head`, or ask for {FEATURES.name}"
        raise Unprocessable(detail, code="no_head", pointer="/head")
    return None


def _task(request: PredictRequest, head: Resolved | None) -> Task:
    spec = None if head is None else head.version.manifest.head
    made_for = FEATURES if spec is None else task_of(spec)
    if request.task is None:
        return made_for
    task = TASKS[request.task]
    if task is FEATURES and request.head is not None:
        raise Unprocessable(f"{FEATURES.name} reads no head", code="wrong_task", pointer="/head")
    if task not in (made_for, FEATURES):
        if spec is None:
            raise Unprocessable(f"{task.name} needs a head: name one as `head`", code="no_head", pointer="/head")
        detail = f"the head answers {made_for.name}, not {task.name}"
        raise Unprocessable(detail, code="wrong_task", pointer="/task")
    return task


async def _embedding(
    request: PredictRequest, named: _Named, packages: tuple[Resolved, ...], resolver: _Resolver
) -> Resolved | None:
    """Explicit, else the manifests', else the tenant's active one, else the backbone's own."""
    if request.embedding is not None and named.embedding is not None:
        detail = f"the vocabulary is named twice: here, and as ~{named.embedding} in adapters"
        raise Unprocessable(detail, code="ambiguous_embedding", pointer="/embedding")
    if named.embedding is not None:
        return await _pinned_unless_default(str(named.embedding), "/adapters", resolver)
    if request.embedding is not None:
        return await _pinned_unless_default(request.embedding, "/embedding", resolver)
    wanted: dict[str, AdapterRef] = {}
    for package in packages:
        if package.version.manifest.requires.embedding is not None:
            wanted[package.version.manifest.requires.embedding] = package.version.ref
    if len(wanted) > 1:
        raise _contradiction(wanted)
    if wanted:
        return await _pinned_unless_default(next(iter(wanted)), "/adapters", resolver)
    active = resolver.directory.active_embedding(resolver.tenant)
    return None if active is None else await _pinned_unless_default(active, "/embedding", resolver)


async def _pinned_unless_default(text: str, pointer: str, resolver: _Resolver) -> Resolved | None:
    return None if text == DEFAULT_EMBEDDING else await resolver.pin_text("embedding", text, pointer)


def _contradiction(wanted: Mapping[str, AdapterRef]) -> Unprocessable:
    pairs = ", ".join(f"{ref.name} needs {name}" for name, ref in wanted.items())
    detail = f"the packages were made for different vocabularies ({pairs}): name one as `embedding`"
    return Unprocessable(detail, code="contradicting_embeddings", pointer="/embedding")


def _reference(text: str, pointer: str) -> Reference:
    try:
        return parse_reference(text)
    except InvalidName as error:
        raise Unprocessable(str(error), code="invalid_name", pointer=pointer) from error


def _as_written(raw: object, pointer: str) -> str:
    """A pointer into the parsed composition as one into what the client wrote: a list has no member `stack`."""
    if isinstance(raw, str):
        return "/adapters"
    return pointer.replace("/adapters/stack/", "/adapters/", 1) if isinstance(raw, list) else pointer


def _member_pointer(raw: object, index: int) -> str:
    if isinstance(raw, str):
        return "/adapters"
    return f"/adapters/{index}" if isinstance(raw, list) else f"/adapters/stack/{index}"
