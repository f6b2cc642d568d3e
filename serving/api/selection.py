"""What a request names, pinned: adapters and fusions, heads, vocabulary and tasks, for the caller's tenant.

From here on a hot swap can not touch the request: every name has become a version and a digest.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

from adapters.architectures.geometry import Geometry
from adapters.composition import Block, Composition, Fuse, Leaf, Split, last
from adapters.manifest import HeadSpec
from adapters.refs import AdapterRef, Reference
from serving.api.footprint import inserted, shifted, visits
from serving.api.naming import Named, named, of_target
from serving.api.resolving import Resolver
from serving.api.schemas import PredictRequest
from serving.api.services import Directory
from serving.errors import Unprocessable
from serving.registry.records import Resolved
from serving.request import pinned
from serving.tasks.table import FEATURES, task_of, tasks_of
from serving.tasks.task import Task


@dataclass(frozen=True)
class Branch:
    """What answers a row: a pinned composition, its task, and its head (None for a task without one).

    `inserted`: tokens that a prompt adds; only the first adapter's prompt counts (AdapterHub's rule). `shifted`: positions
    that its past takes. `visits`: layers that run over those of the backbone, see `Ticket.visits`.
    """

    composition: Composition
    task: Task
    head: Resolved | None
    inserted: int = 0
    visits: float = 1.0
    shifted: int = 0

    @cached_property
    def head_spec(self) -> HeadSpec | None:
        """The head's description."""
        return None if self.head is None else self.head.version.manifest.head

    @cached_property
    def splits(self) -> bool:
        """Whether the lengths of a split bound the rows."""
        return _splits(self.composition.block)


@dataclass(frozen=True)
class Selection:
    """What runs. `branches[t]` answer the inputs of task t: several with `Parallel`, else one.

    `task_ids` tells the task of each input where a `MultiTask` is named. `embedding` None is the backbone's own
    vocabulary. `target` is the published target that stood for the composition.
    """

    branches: tuple[tuple[Branch, ...], ...]
    adapters: tuple[Resolved, ...]  # adapters and fusions that run, in the order written, without repeats
    embedding: Resolved | None = None
    parallel: bool = False
    task_ids: tuple[int, ...] | None = None
    target: Resolved | None = None

    def of(self, index: int) -> tuple[Branch, ...]:
        """The branches that answer one input."""
        return self.branches[0 if self.task_ids is None else self.task_ids[index]]

    @cached_property
    def tasks(self) -> tuple[Task, ...]:
        """The tasks of the branches, without repeats."""
        return tuple(dict.fromkeys(branch.task for branch in used(self.branches, self.task_ids)))

    @cached_property
    def heads(self) -> tuple[Resolved, ...]:
        """The heads that answer, without repeats."""
        heads = (branch.head for branch in used(self.branches, self.task_ids))
        return tuple({head.version.ref: head for head in heads if head is not None}.values())

    @cached_property
    def packages(self) -> tuple[Resolved, ...]:
        """Adapters, fusions and heads, without repeats."""
        return tuple({held.version.ref: held for held in (*self.adapters, *self.heads)}.values())


def used(branches: tuple[tuple[Branch, ...], ...], task_ids: tuple[int, ...] | None) -> tuple[Branch, ...]:
    """Every branch that answers some input."""
    tasks = range(len(branches)) if task_ids is None else sorted(set(task_ids))
    return tuple(branch for task in tasks for branch in branches[task])


async def select(request: PredictRequest, tenant: str, directory: Directory, geometry: Geometry) -> Selection:
    """Resolve all that the request names; raises `NotFound`, `NotReady` or `Unprocessable` with a pointer to the name."""
    tasks = tasks_of(geometry)
    if request.task is not None and request.task not in tasks:
        reads = "text" if geometry.image is None else "images"
        detail = (
            f"this backbone ({geometry.model_type}) reads {reads}: ask for {' or '.join(tasks)}, not {request.task}"
        )
        raise Unprocessable(detail, code="wrong_task", pointer="/task")
    if request.adapters is None and (request.task is None or tasks[request.task].heads):
        alone = " and ".join(task.name for task in tasks.values() if not task.heads)
        detail = f"name the adapters; [] is the bare backbone (only {alone} may leave them out)"
        raise Unprocessable(detail, code="missing_adapters", pointer="/adapters")
    resolver = Resolver(tenant, directory)
    names, wish = named(request.adapters), _Wish.of(request, tasks)
    names, wish, target = await _opened(names, wish, resolver)
    if any(layer >= geometry.layers for layer in names.composition.skip_layers):
        detail = f"skip_layers: the backbone has the layers 0 to {geometry.layers - 1}"
        raise Unprocessable(detail, code="invalid_composition", pointer="/adapters/skip_layers")
    held = await _held(names, resolver)
    head = None if wish.head is None else await resolver.head(wish.head, "/head")
    if head is not None and names.parallel:
        detail = "a parallel composition answers with the head of each branch's last adapter: leave `head` out"
        raise Unprocessable(detail, code="ambiguous_head", pointer="/head")
    branches = tuple(
        tuple(_branch(composition, held, head, request, names, tasks) for composition in names.branches(task))
        for task in range(names.tasks or 1)
    )
    task_ids = _task_ids(request, names)
    ran = {ref for branch in used(branches, task_ids) for ref in pinned(branch.composition.block)}
    adapters = {package.version.ref: package for package in held.values() if package.version.ref in ran}
    found = Selection(branches, tuple(adapters.values()), None, names.parallel, task_ids, target)
    if len(found.tasks) > 1 and not found.parallel:
        several = " and ".join(task.name for task in found.tasks)
        detail = f"the inputs of one request are of one task, and these adapters' heads answer {several}"
        raise Unprocessable(detail, code="wrong_task", pointer="/parameters/task_ids")
    if geometry.image is not None:
        _refuse_vocabulary(request, names)
        return found
    found = replace(found, embedding=await _embedding(wish, names, found, resolver))
    _check_vocabulary(found, geometry)
    return found


@dataclass(frozen=True)
class _Wish:
    """Head and vocabulary as asked for, by the request or by its target."""

    head: str | None
    embedding: str | None

    @classmethod
    def of(cls, request: PredictRequest, tasks: Mapping[str, Task]) -> "_Wish":
        headless = request.task is not None and not tasks[request.task].heads
        if headless and request.head is not None:
            raise Unprocessable(f"{request.task} reads no head", code="wrong_task", pointer="/head")
        return cls(request.head, request.embedding)


async def _opened(names: Named, wish: _Wish, resolver: Resolver) -> tuple[Named, _Wish, Resolved | None]:
    """A target replaced by what it stands for; the request's own head and vocabulary win."""
    if names.alone is None:
        return names, wish, None
    found = await resolver.pin("adapter", names.alone, names.places[0][1])
    spec = found.version.manifest.target
    if spec is None:
        return names, wish, None
    explicit = wish.embedding is not None or names.embedding is not None
    wish = _Wish(wish.head or spec.head, wish.embedding if explicit else spec.embedding)
    return replace(of_target(spec.adapters), embedding=names.embedding), wish, found


async def _held(names: Named, resolver: Resolver) -> dict[Reference, Resolved]:
    """Every adapter and fusion, in the order written."""
    held: dict[Reference, Resolved] = {}
    for block, pointer in names.places:
        if isinstance(block, Leaf):
            reference = _reference(block.ref)
            held[reference] = await resolver.adapter(reference, pointer)
        elif isinstance(block, Fuse):
            reference = _reference(block.name)
            held[reference] = await resolver.fusion(reference, f"{pointer}/name", arms=len(block.children))
    return held


def _branch(
    composition: Composition,
    held: Mapping[Reference, Resolved],
    head: Resolved | None,
    request: PredictRequest,
    names: Named,
    tasks: Mapping[str, Task],
) -> Branch:
    """One branch with versions for names; raises `Unprocessable` where head and task do not agree."""
    leaf = last(composition.block)
    top = None if leaf is None else held[_reference(leaf.ref)]
    if head is None and top is not None and top.version.manifest.head is not None:
        head = top
    first = next(composition.leaves(), None)
    lowest = None if first is None else held[_reference(first.ref)].version.manifest
    task = _task(request, head, top, names, tasks)
    return Branch(
        composition=composition.map(lambda ref: held[_reference(ref)].version.ref),
        task=task,
        head=head if task.heads else None,
        inserted=inserted(lowest),
        visits=visits(lowest),
        shifted=shifted(lowest),
    )


def _task(
    request: PredictRequest, head: Resolved | None, top: Resolved | None, names: Named, tasks: Mapping[str, Task]
) -> Task:
    spec = None if head is None else head.version.manifest.head
    remedy, at = "name one as `head`", "/head"
    if names.parallel:  # takes no `head`
        remedy, at = "end every branch with an adapter that has one", "/adapters"
    if request.task is None:
        if spec is None and top is not None:
            detail = f"{top.version.ref.name} has no head: {remedy}, or ask for {FEATURES.name}"
            raise Unprocessable(detail, code="no_head", pointer=at)
        return tasks[FEATURES.name] if spec is None else _own_task(spec, at, tasks)
    task = tasks[request.task]
    if not task.heads:
        return task
    if spec is None:
        raise Unprocessable(f"{task.name} needs a head: {remedy}", code="no_head", pointer=at)
    own = _own_task(spec, at, tasks)
    if task is not own:
        raise Unprocessable(f"the head answers {own.name}, not {task.name}", code="wrong_task", pointer="/task")
    return task


def _own_task(spec: HeadSpec, at: str, tasks: Mapping[str, Task]) -> Task:
    own = task_of(spec, tasks)
    if own is None:
        why = "generates, which is not served yet" if task_of(spec) is None else "answers nothing about images"
        detail = f"a {spec.type} head {why}: ask for {FEATURES.name}, or generate in Python"
        raise Unprocessable(detail, code="wrong_task", pointer=at)
    return own


def _task_ids(request: PredictRequest, names: Named) -> tuple[int, ...] | None:
    """The task of each input, by number or by the name of its adapter; raises `Unprocessable`."""
    given, at = request.parameters.task_ids, "/parameters/task_ids"
    if names.tasks is None:
        if given is not None:
            raise Unprocessable("task_ids means something beside multi_task only", code="wrong_parameter", pointer=at)
        return None
    known = names.task_names()
    if given is None or len(given) != len(request.items):
        detail = (
            f"multi_task needs task_ids, one per input (there are {len(request.items)}): numbers or adapters' names"
        )
        raise Unprocessable(detail, code="invalid_value", pointer=at)
    found = []
    for i, wanted in enumerate(given):
        fits = [t for t, names_of in enumerate(known) if wanted == t or wanted in names_of]
        if len(fits) != 1:
            detail = f"{wanted!r} is {'more than one' if fits else 'none'} of the {len(known)} tasks: give 0 to {len(known) - 1}"
            raise Unprocessable(detail, code="invalid_value", pointer=f"{at}/{i}")
        found += fits
    return tuple(found)


async def _embedding(wish: _Wish, names: Named, found: Selection, resolver: Resolver) -> Resolved | None:
    """Explicit, else the target's, else the manifests', else the tenant's active one, else the backbone's own."""
    if wish.embedding is not None and names.embedding is not None:
        detail = f"the vocabulary is named twice: here, and as ~{names.embedding} in adapters"
        raise Unprocessable(detail, code="ambiguous_embedding", pointer="/embedding")
    if names.embedding is not None:
        return await resolver.embedding(str(names.embedding), "/adapters")
    if wish.embedding is not None:
        return await resolver.embedding(wish.embedding, "/embedding")
    return await resolver.wanted_embedding(found.packages)


def _refuse_vocabulary(request: PredictRequest, names: Named) -> None:
    if request.embedding is not None or names.embedding is not None:
        pointer = "/adapters" if request.embedding is None else "/embedding"
        detail = "the backbone reads images, and has no use for a vocabulary: leave it out"
        raise Unprocessable(detail, code="no_vocabulary", pointer=pointer)


def _check_vocabulary(found: Selection, geometry: Geometry) -> None:
    """Raise `Unprocessable` for a head over another vocabulary than the one that the text is read with."""
    spec = None if found.embedding is None else found.embedding.version.manifest.embedding
    rows = geometry.vocabulary if spec is None else spec.vocabulary
    for head in found.heads:
        made = head.version.manifest.head
        if made is not None and made.vocabulary is not None and made.vocabulary != rows:
            detail = (
                f"{head.version.ref.name} scores a vocabulary of {made.vocabulary}, and the text is read with {rows}"
            )
            raise Unprocessable(f"{detail}: name the `embedding` it was made for", code="wrong_head", pointer="/head")


def _splits(block: Block) -> bool:
    return isinstance(block, Split) or (not isinstance(block, Leaf) and any(map(_splits, block.children)))


def _reference(ref: Reference | AdapterRef | None) -> Reference:
    assert isinstance(ref, Reference), "what a client wrote is resolved here and nowhere else"
    return ref
