"""What `/v1/targets` answers: everything that a name answers, and what the target is made of, version by version."""

from collections.abc import Sequence
from typing import Any

from typing_extensions import TypedDict

from adapters.manifest import TargetSpec
from serving.api import answers
from serving.registry.records import NameRecord, Resolved
from serving.registry.targets import pinned, reworded


class MemberAnswer(TypedDict):
    """One version that a target is made of; `role` is adapter, fusion, head or embedding."""

    role: str
    name: str
    version: int
    digest: str


class CompositionAnswer(TypedDict):
    """What a target stands for, each name with its version; `embedding` null leaves it to the tenant's active one."""

    adapters: dict[str, Any]
    embedding: str | None
    head: str | None
    members: list[MemberAnswer]


class TargetSummaryAnswer(answers.SummaryAnswer):
    """A target in a list, and what its bare name stands for."""

    composition: CompositionAnswer


class TargetListAnswer(TypedDict):
    """A page of targets, sorted; `next` is the `after` of the following page, or None."""

    items: list[TargetSummaryAnswer]
    next: str | None


class TargetNameAnswer(answers.NameAnswer):
    """One target whole, and what the selected version stands for."""

    composition: CompositionAnswer


Members = Sequence[tuple[str, Resolved]]  # role, version


def composition_answer(spec: TargetSpec, members: Members) -> CompositionAnswer:
    """A composition as JSON that can be put again as it is."""
    words = {pinned(found): f"{found.version.ref.name}@{found.version.ref.version}" for _, found in members}
    shown = reworded(spec, words)
    return {
        "adapters": dict(shown.adapters),
        "embedding": shown.embedding,
        "head": shown.head,
        "members": [
            {
                "role": role,
                "name": found.version.ref.name,
                "version": found.version.ref.version,
                "digest": found.version.ref.digest,
            }
            for role, found in members
        ],
    }


def target_summary_answer(record: NameRecord, composition: CompositionAnswer) -> TargetSummaryAnswer:
    """A target for a list."""
    return {**answers.summary_answer(record), "composition": composition}


def target_name_answer(record: NameRecord, selected: Resolved, composition: CompositionAnswer) -> TargetNameAnswer:
    """A target whole."""
    return {**answers.name_answer(record, selected), "composition": composition}
