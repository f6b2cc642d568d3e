"""Replies to an answer: every input's rows worded by its task, with what really ran; or the refusal of the first row."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from pydantic_core import to_json

from adapters.architectures.profile import BackboneProfile
from serving.api.preparing import Part
from serving.api.rows import Rows
from serving.api.schemas import PredictRequest
from serving.api.selection import Selection
from serving.errors import REFUSALS, EngineFailed, Fault, ServiceError, Unprocessable
from serving.registry.records import Resolved
from serving.request import Reduced, Refusal, Reply, Result, Ticket
from serving.tasks.task import Options

TIERS = ("disk", "host", "device")  # slowest first: a package shared by rows is told where the unluckiest row found it
PARALLEL = "parallel"  # the task of an answer whose branches have different ones
_OF_COMPOSITION = "invalid_arrangement"  # a refusal of how adapters are put together, whatever the input


def finished(
    request: PredictRequest, rows: Rows, tickets: Sequence[Ticket], replies: Sequence[Reply]
) -> tuple[Result, ...]:
    """The results in order; one refused row refuses the request, with a fault for each input that has such a row."""
    if [reply.ticket for reply in replies] != [ticket.id for ticket in tickets]:
        raise EngineFailed("the replies do not belong to the rows that were sent")
    owners = [i for i, _, _ in rows.pieces]
    refused = [(i, reply) for i, reply in zip(owners, replies, strict=True) if isinstance(reply, Refusal)]
    if refused:
        raise _refusal(request, refused)
    return tuple(reply for reply in replies if isinstance(reply, Result))


def word(selection: Selection, rows: Rows, results: Sequence[Result], options: Options) -> list[Any]:
    """One answer per input; raises `EngineFailed` where an output is not of the shape that the task asked for."""
    shares = iter([result.reduced for result in results])
    several = len(selection.tasks) > 1
    outputs: list[Any] = []
    for parts in rows.inputs:
        answers = [(part, _answer(part, shares, options)) for part in parts]
        if not selection.parallel:
            outputs.append(answers[0][1])
            continue
        branches: list[dict[str, Any]] = []
        for part, output in answers:
            head = part.branch.head
            branches.append({"head": None if head is None else head.version.ref.name, "output": output})
            if several:
                branches[-1]["task"] = part.branch.task.name
        outputs.append(branches)
    return outputs


def serialised(answer: Mapping[str, Any]) -> bytes:
    """The answer as JSON, each output by itself: other threads come to their turn between two of them."""
    members = (
        to_json(name) + b":" + (b"[" + b",".join(map(to_json, value)) + b"]" if name == "outputs" else to_json(value))
        for name, value in answer.items()
    )
    return b"{" + b",".join(members) + b"}"


def task_name(selection: Selection) -> str:
    """The task of the answer."""
    tasks = selection.tasks
    return tasks[0].name if len(tasks) == 1 else PARALLEL


def target(selection: Selection, profile: BackboneProfile) -> dict[str, Any]:
    """What really ran, with versions and digests."""
    heads = selection.heads
    return {
        "base": {"id": profile.id, "digest": profile.digest},
        "adapters": [_pinned(package) for package in selection.adapters],
        "embedding": None if selection.embedding is None else _pinned(selection.embedding),
        "head": heads[0].version.ref.name if len(heads) == 1 and not selection.parallel else None,
        "heads": [_pinned(head) for head in heads],
        "stood_for": None if selection.target is None else _pinned(selection.target),
    }


def digests(selection: Selection) -> tuple[str, ...]:
    """Of all that runs, sorted: what log lines and traces tell of a request."""
    vocabulary = () if selection.embedding is None else (selection.embedding,)
    return tuple(sorted({held.version.ref.digest for held in (*selection.packages, *vocabulary)}))


def residency(selection: Selection, results: Sequence[Result]) -> dict[str, str]:
    """Where each package was found, by name; names that would collide carry their version, or `~` for a vocabulary."""
    told: dict[str, str] = {}
    refs = [package.version.ref for package in selection.packages]
    names = [ref.name for ref in refs]
    for ref in refs:
        name = ref.name if names.count(ref.name) == 1 else f"{ref.name}@{ref.version}"
        told |= _found(name, ref.digest, results)
    if selection.embedding is not None:
        ref = selection.embedding.version.ref
        told |= _found(f"~{ref.name}" if ref.name in told else ref.name, ref.digest, results)
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


def _answer(part: Part, shares: Iterator[Reduced], options: Options) -> Any:
    """One part's answer from as many of the shares as it has rows."""
    task, head = part.branch.task, part.branch.head_spec
    mine = [next(shares) for _ in part.prepared.pieces]
    for piece, share in zip(part.prepared.pieces, mine, strict=True):
        wanted, found = task.shape(piece, head, options), share.output.shape
        fits = len(wanted) == len(found) and all(w in (None, f) for w, f in zip(wanted, found, strict=True))
        if not fits or not np.isfinite(share.output).all():
            raise EngineFailed(f"the engine returned {found} or no finite numbers, not {wanted}")
    return task.answer(part.prepared, mine, head, options)


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
    faults = tuple(
        dict.fromkeys(
            Fault("/adapters" if refusal.code == _OF_COMPOSITION else request.pointer(i), refusal.detail)
            for i, refusal in refused
        )
    )
    kind = Unprocessable if first.code == _OF_COMPOSITION else REFUSALS.get(first.code, EngineFailed)
    waits = [refusal.retry_after for _, refusal in refused if refusal.retry_after is not None]
    return kind(first.detail, code=first.code, faults=faults, retry_after=max(waits, default=None))
