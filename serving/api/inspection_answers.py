"""What a dry run answers: what is in the package, what it would do to the backbone, and what a publish of it would do."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, cast

from typing_extensions import TypedDict

from serving.api.answers import task_of
from serving.registry.inspection import Inspection, Trial
from serving.registry.records import NameRecord, Quota


class TrialAnswer(TypedDict):
    """One pass over a reference input; `change` is how far the states moved from the bare backbone's, relatively."""

    input: str
    tokens: int
    norm: float
    change: float | None
    answer: dict[str, Any] | None


class ModulesAnswer(TypedDict):
    """The modules that the package acts on, by kind of site, and those that it leaves alone."""

    count: int
    matched: dict[str, list[str]]
    untouched: list[str]


class RoomAnswer(TypedDict):
    """One limit of the tenant's quota: what it holds, what the publish would add, and what is allowed (null: any)."""

    held: int
    asked: int
    allowed: int | None


class OutlookAnswer(TypedDict):
    """What a publish would do now: `version` is the new or the existing one; `refused` says why it would be refused."""

    creates: bool
    version: int
    names: RoomAnswer
    bytes: RoomAnswer
    refused: str | None


class InspectionAnswer(TypedDict):
    """A package that was not stored, looked into. `method` joins the methods of its parts."""

    name: str
    digest: str
    bytes: int
    device_bytes: int
    parameters: int
    kind: str
    method: str
    methods: list[str]
    task: str | None
    labels: list[str]
    modules: ModulesAnswer
    trial: TrialAnswer | None
    untried: str
    warnings: list[str]
    outlook: OutlookAnswer


def inspection_answer(name: str, found: Inspection, outlook: OutlookAnswer) -> InspectionAnswer:
    """A dry run as JSON."""
    report, manifest, head = found.report, found.report.manifest, found.report.manifest.head
    return {
        "name": name,
        "digest": report.digest,
        "bytes": report.nbytes,
        "device_bytes": report.device_bytes,
        "parameters": found.parameters,
        "kind": manifest.kind,
        "method": manifest.method,
        "methods": [part.method for part in manifest.parts],
        "task": task_of(manifest),
        "labels": [] if head is None else list(head.labels),
        "modules": {
            "count": len({module for modules in found.matched.values() for module in modules}),
            "matched": {kind: list(modules) for kind, modules in found.matched.items()},
            "untouched": list(found.untouched),
        },
        "trial": _trial_answer(found.trial),
        "untried": found.untried,
        "warnings": list(report.warnings),
        "outlook": outlook,
    }


def outlook_of(name: str, found: Inspection, held: Sequence[NameRecord], last: int, quota: Quota) -> OutlookAnswer:
    """What a publish would do, by the registry as this gateway knows it.

    `held` are all names of the tenant, `last` is the highest number of a version of this one that was retired.
    """
    report = found.report
    record = next((item for item in held if item.name == name and item.space == _space(found)), None)
    same = [v for v in (record.versions if record else ()) if v.ref.digest == report.digest]
    given = (0,) if record is None else (record.last, record.versions[-1].ref.version)
    sizes = {version.ref.digest: version.nbytes for item in held for version in item.versions}
    names: RoomAnswer = {"held": len(held), "asked": int(record is None), "allowed": quota.adapters}
    nbytes: RoomAnswer = {
        "held": sum(sizes.values()),
        "asked": 0 if report.digest in sizes else report.nbytes,
        "allowed": quota.nbytes,
    }
    return {
        "creates": not same,
        "version": same[-1].ref.version if same else 1 + max(last, *given),
        "names": names,
        "bytes": nbytes,
        "refused": None if same else _refused(record, names, nbytes),
    }


def _space(found: Inspection) -> str:
    return "embedding" if found.report.manifest.kind == "embedding" else "adapter"


def _refused(record: NameRecord | None, names: RoomAnswer, nbytes: RoomAnswer) -> str | None:
    if record is not None and record.current.manifest.kind == "target":
        return f"{record.name!r} is the name of a target"
    over = [
        f"{room['held']} {noun} and {room['asked']} more are over the quota of {room['allowed']}"
        for noun, room in (("names", names), ("bytes", nbytes))
        if room["allowed"] is not None and room["asked"] and room["held"] + room["asked"] > room["allowed"]
    ]
    return "; ".join(over) or None


def _trial_answer(trial: Trial | None) -> TrialAnswer | None:
    return None if trial is None else cast("TrialAnswer", asdict(trial))
