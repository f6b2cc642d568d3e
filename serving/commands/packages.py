"""Adapters on the operator's machine: read in any format, check, convert, and publish as native packages.

Nothing here runs in the service: a pickle is opened by the converter's subprocess on this machine, and only
safetensors travel.
"""

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

from adapters.architectures.profile import BackboneProfile, read_profile
from adapters.door import sources
from adapters.formats import converter, native, recognise
from adapters.formats.adapterhub import folder as adapterhub
from adapters.formats.check import check
from adapters.formats.peft import folder as peft
from adapters.weights import Package
from serving.api.answers import PublishedAnswer
from serving.client import Client
from serving.commands import tables
from serving.commands.options import HUB, space_of
from serving.errors import Conflict, NotReady, Unprocessable


@dataclass(frozen=True)
class Reading:
    """What to read, for which backbone (None asks the service), and what a folder does not say of its head or its task."""

    source: Path
    backbone: Path | None
    labels: tuple[str, ...] | None = None
    problem_type: str | None = None
    head_seed: int | None = None
    task_id: int | None = None


@dataclass(frozen=True, eq=False)
class Ready:
    """A package that fits, and the native bytes to publish: a native file's own, so that its digest stays."""

    package: Package
    native: bytes


@contextmanager
def opened(reading: Reading, client: Client) -> Iterator[tuple[Path, BackboneProfile]]:
    """The source, its pickles converted to safetensors in a folder that goes away, and the backbone's profile.

    `hf:org/repo[@rev]` is fetched from the Hugging Face hub; raises `FileNotFoundError` where that gives nothing.
    """
    wanted, there = str(reading.source), reading.source.exists()
    if not there and not wanted.startswith(HUB):
        raise FileNotFoundError(f"there is no {reading.source}")
    profile = _profile(reading.backbone, client)
    if not there:
        tables.note(f"fetching {wanted.removeprefix(HUB)} from the hub")
    elif reading.source.is_dir() and converter.needs_conversion(reading.source):
        tables.note(f"{reading.source} holds pickles: converting them to safetensors in a subprocess")
    with ExitStack() as stack:
        try:
            source = stack.enter_context(sources.readable(wanted))
        except FileNotFoundError as error:
            remedy = "download it where the hub can be reached, and name the folder"
            raise FileNotFoundError(f"{wanted} could not be fetched ({error}): {remedy}") from error
        yield source, profile


def prepare(reading: Reading, client: Client) -> Ready:
    """Read and check on this machine. Raises `Misfit` with every reason, `UnsafeFile`, `InvalidPackage`."""
    with opened(reading, client) as (source, profile):
        return read(reading, source, profile)


def read(reading: Reading, source: Path, profile: BackboneProfile) -> Ready:
    """The one package of an opened source; raises as `prepare` does."""
    said: dict[str, Any] = {
        "labels": reading.labels,
        "problem_type": reading.problem_type,
        "head_seed": reading.head_seed,
        "task_id": reading.task_id,
    }
    package = recognise.read(source, profile, **said)
    for warning in recognise.warnings(package):
        tables.note(f"warning: {warning}")
    check(package, profile)
    return Ready(package, source.read_bytes() if source.is_file() else native.write(package))


def pull(client: Client, reference: str, target: Path, form: str, *, embedding: bool) -> None:
    """Download a package and write it in the layout of a library; raises `Conflict` where `target` is there."""
    if target.exists():
        raise Conflict(f"{target} is there already: remove it, or write elsewhere")
    with tempfile.TemporaryDirectory(prefix="chorus-") as scratch:
        file = Path(scratch) / "package"
        space_of(client, embedding=embedding).fetch(reference, file)
        write(Ready(native.read(file), b""), target, form)


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
    tables.note(tables.published(answer))
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
