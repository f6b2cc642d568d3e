"""Adapters on the operator's machine: read in any format, check, convert, and publish as native packages.

Nothing here runs in the service: a pickle is opened by the converter's subprocess on this machine, and only
safetensors travel.
"""

import tempfile
from dataclasses import dataclass
from pathlib import Path

from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

from adapters.architectures.profile import BackboneProfile, read_profile
from adapters.formats import adapterhub, converter, native, peft, recognise
from adapters.formats.check import check
from adapters.weights import Package
from serving.api.answers import PublishedAnswer
from serving.client import Client
from serving.commands import tables
from serving.commands.options import space_of
from serving.errors import Conflict, NotReady, Unprocessable


@dataclass(frozen=True)
class Reading:
    """What to read, for which backbone (None asks the service), and what a folder does not say of its head."""

    source: Path
    backbone: Path | None
    labels: tuple[str, ...] | None = None
    problem_type: str | None = None


@dataclass(frozen=True, eq=False)
class Ready:
    """A package that fits, and the native bytes to publish: a native file's own, so that its digest stays."""

    package: Package
    native: bytes


def prepare(reading: Reading, client: Client) -> Ready:
    """Read and check on this machine. Raises `Misfit` with every reason, `UnsafeFile`, `InvalidPackage`."""
    if not reading.source.exists():
        raise FileNotFoundError(f"there is no {reading.source}")
    profile = _profile(reading.backbone, client)
    with tempfile.TemporaryDirectory(prefix="chorus-") as scratch:
        source = reading.source
        if source.is_dir() and converter.needs_conversion(source):
            tables.note(f"{source} holds pickles: converting them to safetensors in a subprocess")
            source = converter.convert(source, Path(scratch) / source.name)
        package = recognise.read(source, profile, labels=reading.labels, problem_type=reading.problem_type)
    for warning in recognise.warnings(package):
        tables.note(f"warning: {warning}")
    check(package, profile)
    return Ready(package, source.read_bytes() if source.is_file() else native.write(package))


def publish(client: Client, ready: Ready, name: str, *, promote: bool, embedding: bool) -> PublishedAnswer:
    """Publish where the kind belongs; what happened goes to stderr. Raises the service's refusal."""
    kind = ready.package.manifest.kind
    if embedding and kind != "embedding":
        raise Unprocessable(f"--embedding was given, but this is a package of kind {kind!r}")
    space = space_of(client, embedding=kind == "embedding")
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    console = tables.stderr()
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(f"publishing {name}", total=len(ready.native))
        answer = space.publish(
            name, ready.native, promote=promote, progress=lambda sent: bar.update(task, completed=sent)
        )
    outcome = "published" if answer["created"] else "was published already:"
    moved = f", {answer['promoted']} moved to it" if answer["promoted"] else ""
    tables.note(f"{outcome} {answer['name']}@{answer['version']}  {tables.size(answer['bytes'])}{moved}")
    return answer


def write(ready: Ready, target: Path, form: str) -> None:
    """Write a package in one of the formats; raises `Conflict` where `target` is there already."""
    if target.exists():
        raise Conflict(f"{target} is there already: remove it, or write elsewhere")
    if form == recognise.NATIVE:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(ready.native)
    elif form == recognise.ADAPTERHUB:
        adapterhub.write(ready.package, target)
    else:
        peft.write(ready.package, target)
    manifest = ready.package.manifest
    tables.done(f"{target}  {form}  {manifest.method}" + (f"  {native.digest(target)}" if target.is_file() else ""))


def _profile(backbone: Path | None, client: Client) -> BackboneProfile:
    if backbone is not None:
        return read_profile(backbone)
    try:
        return BackboneProfile.from_json(client.limits()["profile"])
    except NotReady as error:
        raise NotReady(f"{error.detail}; give --backbone FOLDER to work without it", code=error.code) from error
