"""A saved setup: `adapter_setup.json` (which adapters in which arrangement, and the head), and a folder for each member.

It becomes a target: the arrangement in the grammar of `composition`, with the names that the library used, and a
package for each name.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from adapters import composition
from adapters.architectures.profile import BackboneProfile
from adapters.errors import AdapterError, InvalidComposition, Misfit
from adapters.formats import files
from adapters.formats.adapterhub import folder as folders
from adapters.weights import Package

_BLOCKS: Mapping[str, str] = {
    "Stack": "stack",
    "Fuse": "fuse",
    "Average": "average",
    "Parallel": "parallel",
    "Split": "split",
    "MultiTask": "multi_task",
}


@dataclass(frozen=True, eq=False)
class Setup:
    """What a setup holds. `composition` is JSON whose names are keys of `adapters` and `fusions`.

    `head` is a key of `heads`, or the name of an adapter that brings it; None where every part answers with its own.
    """

    composition: Mapping[str, Any]
    adapters: Mapping[str, Package]
    fusions: Mapping[str, Package]
    heads: Mapping[str, Package]
    head: str | None
    warnings: tuple[str, ...]


def is_setup(folder: Path) -> bool:
    """Whether a folder holds a saved setup."""
    return (folder / folders.SETUP_CONFIG).is_file()


def read(folder: Path, profile: BackboneProfile) -> Setup:
    """Read a setup and all of its members for a backbone.

    Raises `Misfit` with every reason, `UnsafeFile` where weights are pickles, `InvalidPackage` where files are broken.
    """
    saved = files.read_json(folder / folders.SETUP_CONFIG)
    reasons: list[str] = []
    arrangement = _block(saved.get("adapter_setup"))
    if not isinstance(arrangement, dict):
        arrangement = {"stack": [arrangement]}
    adapters = {name: _member(folder, name, "adapter", profile, reasons) for name in dict.fromkeys(_names(arrangement))}
    fusions: dict[str, Package | None] = {}
    for block in _fuses(arrangement):
        block["name"] = _fusion_of(folder, block, reasons)
        fusions[block["name"]] = _member(folder, block["name"], "fusion", profile, reasons)
    reasons += _arranged(arrangement)
    head = _head(saved.get("head_setup"), arrangement)
    heads: dict[str, Package | None] = {}
    if head is not None and head not in adapters:
        heads[head] = _member(folder, head, "head", profile, reasons)
    brought = adapters.get(head) if head is not None else None
    if brought is not None and brought.manifest.head is None:
        reasons.append(f"the setup names the head {head!r}, which its adapter's folder does not hold")
    if reasons:
        raise Misfit(reasons)
    found = [{k: v for k, v in members.items() if v is not None} for members in (adapters, fusions, heads)]
    warnings = [
        f"{name}: {text}"
        for members in found
        for name, package in members.items()
        for text in package.manifest.source.get("warnings", ())
    ]
    return Setup(arrangement, found[0], found[1], found[2], head, tuple(warnings))


def _block(value: Any) -> Any:
    """A saved block in our grammar; raises `Misfit`."""
    if not isinstance(value, Mapping) or not isinstance(value.get("children"), list) or not value["children"]:
        raise Misfit([f"{folders.SETUP_CONFIG} has no block of adapters where one belongs"])
    kind, children, options = str(value.get("type")), value["children"], value.get("kwargs") or {}
    if kind == "single":
        if len(children) != 1 or not isinstance(children[0], str):
            raise Misfit([f"{folders.SETUP_CONFIG}: a single adapter is one name"])
        return children[0]
    if kind == "BatchSplit":
        raise Misfit(["BatchSplit divides a batch, which is no part of a target: publish its adapters one by one"])
    if kind not in _BLOCKS or not isinstance(options, Mapping):
        raise Misfit([f"the block {kind!r} of {folders.SETUP_CONFIG} is not known"])
    block: dict[str, Any] = {_BLOCKS[kind]: [_block(child) for child in children]}
    if kind == "Average" and options.get("weights") is not None:
        block["weights"] = list(options["weights"])
    if kind == "Split":
        splits = options.get("splits")
        block["splits"] = [splits] * len(children) if isinstance(splits, int) else splits
    if kind == "Fuse" and options.get("name"):
        block["name"] = str(options["name"])
    return block


def _children(block: Mapping[str, Any]) -> list[Any]:
    return next(list(value) for key, value in block.items() if key in _BLOCKS.values())


def _names(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    else:
        for child in _children(value):
            yield from _names(child)


def _fuses(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        if "fuse" in value:
            yield value
        for child in _children(value):
            yield from _fuses(child)


def _last(value: Any) -> str:
    return value if isinstance(value, str) else _last(_children(value)[-1])


def _fusion_of(folder: Path, block: Mapping[str, Any], reasons: list[str]) -> str:
    """The name of a block's fusion; the library does not save one that was chosen, so it is found by what it fuses."""
    lasts = [_last(child) for child in block["fuse"]]
    usual = str(block.get("name") or ",".join(lasts))
    if _place(folder, usual) is not None:
        return usual
    fitting = [
        place.name
        for place in sorted(folder.iterdir())
        if (place / folders.FUSION_CONFIG).is_file()
        and files.read_json(place / folders.FUSION_CONFIG).get("adapter_names") == lasts
    ]
    if len(fitting) > 1:
        reasons.append(f"several fusions of {', '.join(lasts)}: {', '.join(fitting)}; the setup does not say which")
    return fitting[0] if fitting else usual


def _member(folder: Path, name: str, kind: str, profile: BackboneProfile, reasons: list[str]) -> Package | None:
    """The package of a name; None, with the reasons, where there is none."""
    place = _place(folder, name)
    if place is None:
        reasons.append(f"the setup names {name!r}, but holds no folder of that name")
        return None
    try:
        package = folders.read(place, profile)
    except Misfit as misfit:
        reasons += [f"{name}: {reason}" for reason in misfit.reasons]
        return None
    except AdapterError as error:
        raise type(error)(f"{name}: {error}") from error
    if package.manifest.kind != kind:
        reasons.append(f"{name} is of the kind {package.manifest.kind!r}, where the setup has a place for {kind!r}")
        return None
    return package


def _place(folder: Path, name: str) -> Path | None:
    """The folder of a member, never outside of the setup's own."""
    parts = PurePosixPath(name).parts
    if not parts or ".." in parts or PurePosixPath(name).is_absolute() or not (folder / name).is_dir():
        return None
    return folder / name


def _arranged(arrangement: Mapping[str, Any]) -> list[str]:
    """Why the grammar refuses an arrangement. Names need not fit ours, so numbers stand in for them."""
    numbers: dict[str, str] = {}

    def renamed(value: Any) -> Any:
        if isinstance(value, str):
            return numbers.setdefault(value, f"n{len(numbers)}")
        kept = {key: value[key] for key in ("weights", "splits") if key in value}
        return {key: [renamed(child) for child in value[key]] for key in value if key in _BLOCKS.values()} | kept

    try:
        composition.parse(renamed(arrangement))
    except InvalidComposition as error:
        return [f"the arrangement can not be served: {error}"]
    return []


def _head(value: Any, arrangement: Mapping[str, Any]) -> str | None:
    """The head's name; None where every part has the head of its last adapter. Raises `Misfit`."""
    if value is None or isinstance(value, bool):
        return None
    if isinstance(value, str):
        return value
    last = _children(arrangement)[-1] if "stack" in arrangement else arrangement
    parallel = last["parallel"] if isinstance(last, Mapping) and "parallel" in last else []
    if isinstance(value, list) and value == [_last(child) for child in parallel]:
        return None
    raise Misfit([f"the head setup {value!r} can not be served: name one head, or let every part use its own"])
