"""Replies to an answer: every row's output worded by its task, with what really ran; or the refusal of the first row."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from adapters.architectures.profile import BackboneProfile
from serving.api.rows import Rows
from serving.api.schemas import PredictRequest
from serving.api.selection import Selection
from serving.errors import REFUSALS, EngineFailed, Fault, ServiceError, Unprocessable
from serving.registry.records import Resolved
from serving.request import Refusal, Reply, Result, Ticket
from serving.tasks.task import Options, Task

TIERS = ("disk", "host", "device")  # slowest first: a package shared by rows is told where the unluckiest row found it


def options_of(request: PredictRequest, task: Task) -> Options:
    """The parameters of the request; raises `Unprocessable` for one that means nothing to the task."""
    given = request.parameters
    for name in ("top_k", "function_to_apply"):
        if getattr(given, name) is not None and name not in task.parameters:
            detail = f"{name} means nothing to {task.name}"
            raise Unprocessable(detail, code="wrong_parameter", pointer=f"/parameters/{name}")
    label_order = given.function_to_apply == "none" and given.top_k is None and "top_k" in given.model_fields_set
    return Options(given.top_k, given.function_to_apply, label_order)


def finished(request: PredictRequest, tickets: Sequence[Ticket], replies: Sequence[Reply]) -> tuple[Result, ...]:
    """The results in order; one refused row refuses the request, with a fault for each such row."""
    if [reply.ticket for reply in replies] != [ticket.id for ticket in tickets]:
        raise EngineFailed("the replies do not belong to the rows that were sent")
    refused = [(i, reply) for i, reply in enumerate(replies) if isinstance(reply, Refusal)]
    if refused:
        raise _refusal(request, refused)
    return tuple(reply for reply in replies if isinstance(reply, Result))


def word(selection: Selection, rows: Rows, results: Sequence[Result], options: Options) -> list[Any]:
    """One answer per row; raises `EngineFailed` where an output is not of the shape that the task asked for."""
    head = selection.head_spec
    for row, result in zip(rows.encoded, results, strict=True):
        wanted: tuple[int, ...] = () if head is None else (len(head.labels),)
        positions = selection.task.reduction(row).positions
        if head is None:
            wanted = (row.tokens, result.output.shape[-1])
        elif positions is not None:
            wanted = (len(positions), *wanted)
        if result.output.shape != wanted or not np.isfinite(result.output).all():
            raise EngineFailed(f"the engine returned {result.output.shape} or no finite numbers, not {wanted}")
    return [
        selection.task.answer(result.output, row, head, options)
        for row, result in zip(rows.encoded, results, strict=True)
    ]


def target(selection: Selection, profile: BackboneProfile) -> dict[str, Any]:
    """What really ran, with versions and digests."""
    return {
        "base": {"id": profile.id, "digest": profile.digest},
        "adapters": [_pinned(member) for member in selection.members],
        "embedding": None if selection.embedding is None else _pinned(selection.embedding),
        "head": None if selection.head is None else selection.head.version.ref.name,
    }


def residency(selection: Selection, results: Sequence[Result]) -> dict[str, str]:
    """Where each package was found, by name; names that would collide carry their version, or `~` for a vocabulary."""
    told: dict[str, str] = {}
    refs = dict.fromkeys(package.version.ref for package in (*selection.members, *_of(selection.head)))
    names = [ref.name for ref in refs]
    for ref in refs:
        name = ref.name if names.count(ref.name) == 1 else f"{ref.name}@{ref.version}"
        told |= _found(name, ref.digest, results)
    for package in _of(selection.embedding):
        name = package.version.ref.name
        told |= _found(f"~{name}" if name in told else name, package.version.ref.digest, results)
    return told


def timing(rows: Rows, results: Sequence[Result], total_s: float) -> dict[str, float]:
    """Milliseconds; queue, load and forward are those of the slowest row."""
    times = [result.timing for result in results]
    return {
        "queue": round(max(time.queue for time in times), 3),
        "load": round(max(time.load for time in times), 3),
        "tokenize": round(rows.seconds * 1000, 3),
        "forward": round(max(time.forward for time in times), 3),
        "total": round(total_s * 1000, 3),
    }


def _of(package: Resolved | None) -> tuple[Resolved, ...]:
    return () if package is None else (package,)


def _found(name: str, digest: str, results: Sequence[Result]) -> dict[str, str]:
    tiers = [result.residency[digest] for result in results if digest in result.residency]
    return {name: min(tiers, key=TIERS.index)} if tiers else {}


def _pinned(package: Resolved) -> dict[str, Any]:
    ref = package.version.ref
    return {
        "name": ref.name,
        "version": ref.version,
        "digest": ref.digest,
        "resolved_from": package.resolved_from,
    }


def _refusal(request: PredictRequest, refused: Sequence[tuple[int, Refusal]]) -> ServiceError:
    first = refused[0][1]
    faults = tuple(Fault(request.pointer(i), refusal.detail) for i, refusal in refused)
    kind = REFUSALS.get(first.code, EngineFailed)
    waits = [refusal.retry_after for _, refusal in refused if refusal.retry_after is not None]
    return kind(first.detail, code=first.code, faults=faults, retry_after=max(waits, default=None))
