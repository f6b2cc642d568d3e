"""Which format a file or folder is in, and reading it: native package, AdapterHub folder or PEFT folder."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from adapters.architectures.profile import BackboneProfile
from adapters.errors import InvalidPackage, Misfit
from adapters.formats import files, native
from adapters.formats.adapterhub import folder as adapterhub
from adapters.formats.labels import relabel
from adapters.formats.peft import folder as peft
from adapters.weights import Package

NATIVE, ADAPTERHUB, PEFT = "native", "adapterhub", "peft"
_ADAPTERHUB_CONFIGS = (adapterhub.HEAD_CONFIG, adapterhub.FUSION_CONFIG, adapterhub.SETUP_CONFIG)


def format_of(path: Path) -> str:
    """`native`, `adapterhub` or `peft`; raises `InvalidPackage` where it is none of them."""
    if path.is_file():
        return NATIVE
    if not path.is_dir():
        raise InvalidPackage(f"there is no {path.name!r}")
    config = path / "adapter_config.json"
    if config.is_file():
        return PEFT if "peft_type" in files.read_json(config) else ADAPTERHUB
    if any((path / name).is_file() for name in _ADAPTERHUB_CONFIGS) or files.holds(path, adapterhub.EMBEDDING):
        return ADAPTERHUB
    raise InvalidPackage(
        f"{path.name} is no adapter: it holds no adapter_config.json, {', '.join(_ADAPTERHUB_CONFIGS)} or {adapterhub.EMBEDDING}"
    )


def read(
    path: Path,
    profile: BackboneProfile,
    *,
    labels: Sequence[str] | None = None,
    problem_type: str | None = None,
    name: str | None = None,
    head_seed: int | None = None,
    task_id: int | None = None,
) -> Package:
    """Read a file or folder in any format for a backbone; `labels` and `problem_type` are for heads that have none.

    `head_seed` gives what PEFT leaves out of some heads (`peft.drawn`), and nothing else. `task_id` says which task of a
    folder of PEFT's the package is for (`peft.tasks`).
    A saved setup is several packages: `adapterhub.setup` reads it, and here it is a `Misfit`.
    Raises `Misfit` with every reason, `UnsafeFile` where weights are pickles (run `converter.convert` first), or
    `InvalidPackage`.
    """
    kind = format_of(path)
    if kind != PEFT and task_id is not None:
        raise Misfit([f"task_id is {task_id}, but only folders of PEFT hold several tasks: leave it out"])
    try:
        if kind == PEFT:
            said: dict[str, Any] = {"problem_type": problem_type, "head_seed": head_seed, "task_id": task_id}
            return peft.read(path, profile, labels=labels, **said)
        if kind == ADAPTERHUB:
            return relabel(adapterhub.read(path, profile, name=name), labels, problem_type)
    except Misfit as misfit:  # `check` would say it of a package, which there is none of now
        raise Misfit([*misfit.reasons, *_not_finite(path)]) from misfit
    if labels is not None or problem_type is not None:
        raise Misfit(["a native package says its own labels and problem type"])
    return native.read(path)


def _not_finite(path: Path) -> list[str]:
    """What is not finite in a folder that is refused already; a file that can not be read is one reason more."""
    try:
        return files.not_finite(path)
    except InvalidPackage as error:
        return [str(error)]


def warnings(package: Package) -> tuple[str, ...]:
    """What the reader wants the operator to know of a package."""
    said = package.manifest.source.get("warnings")
    return tuple(str(warning) for warning in said) if isinstance(said, list) else ()
