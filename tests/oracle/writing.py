"""Write a case's folders again in its library's format, as `chorus pull --format` does."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from adapters.architectures.profile import BackboneProfile
from adapters.errors import UnsafeFile
from adapters.formats import converter, recognise
from adapters.formats.adapterhub import folder as adapterhub
from adapters.formats.peft import folder as peft
from adapters.weights import Package

CASE, EXPECTED = "case.json", "expected.safetensors"
MEMBERS = ("adapters", "fusions", "heads")


def rewrite(source: Path, target: Path, profile: BackboneProfile, scratch: Path) -> None:
    """Read every folder of a case and write it below `target`, with the case's words and inputs; raises `AdapterError`."""
    case = json.loads((source / CASE).read_text())
    target.mkdir(parents=True)
    paths = {item["path"]: item["name"] for kind in MEMBERS for item in case.get(kind, ())}
    if case.get("embedding"):
        paths[case["embedding"]["path"]] = case["embedding"]["name"]
    for path, name in paths.items():
        package = read(source / path, profile, scratch, case.get("task_id"))
        write(package, case["library"], target / path, name)
    words = {key: value for key, value in case.items() if key != "setup_path"}
    (target / CASE).write_text(json.dumps(words))
    shutil.copyfile(source / EXPECTED, target / EXPECTED)


def read(folder: Path, profile: BackboneProfile, scratch: Path, task_id: int | None = None) -> Package:
    """A folder as a package; what the library keeps as a pickle alone goes through the converter."""
    try:
        return recognise.read(folder, profile, task_id=task_id)
    except UnsafeFile:
        place = scratch / str(sum(1 for _ in scratch.iterdir()))
        place.mkdir()
        return recognise.read(converter.convert(folder, place), profile, task_id=task_id)


def write(package: Package, library: str, folder: Path, name: str) -> None:
    """Write a package in a library's format; raises `Misfit`."""
    if library == "peft":
        peft.write(package, folder)
    else:
        adapterhub.write(package, folder, name=name)


def returned(made: Path, written: Path, target: Path) -> None:
    """The case as it was made, with the outputs that the library computed from what was written."""
    shutil.copytree(made, target)
    shutil.copyfile(written / EXPECTED, target / EXPECTED)


def settings(case: Path) -> Mapping[str, Any]:
    """A case's description."""
    return json.loads((case / CASE).read_text())  # type: ignore[no-any-return]
