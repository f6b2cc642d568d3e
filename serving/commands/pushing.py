"""`chorus push`: one package, a saved setup of AdapterHub (which becomes a target), or a pulled target."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from adapters.formats import native
from adapters.formats.adapterhub import setup
from adapters.manifest import TargetSpec
from adapters.refs import parse_name
from serving.api.inspection_answers import InspectionAnswer
from serving.client import Client
from serving.commands import tables
from serving.commands.options import space_of
from serving.commands.packages import Reading, opened, publish, read
from serving.commands.setups import parts, push_setup
from serving.commands.tagging import retag
from serving.errors import Unprocessable


@dataclass(frozen=True)
class Wish:
    """What to do beside publishing: move `prod`, and say of the version what its manifest does not."""

    promote: bool = False
    embedding: bool = False
    tags: Mapping[str, str] = field(default_factory=dict)


def push(client: Client, reading: Reading, name: str, wish: Wish) -> Any:
    """Publish whatever the source is; the answer as JSON. Raises `Misfit`, `UnsafeFile` or the service's refusal."""
    with opened(reading, client) as (source, profile):
        spec = _target(source)
        if spec is None and not setup.is_setup(source):
            ready = read(reading, source, profile)
            answer: Any = publish(client, ready, name, promote=wish.promote, embedding=wish.embedding)
            return _tagged(client, answer, wish, embedding=ready.package.manifest.kind == "embedding")
        if wish.embedding:
            raise Unprocessable("--embedding was given, but this is a composition of adapters")
        if reading.labels is not None or reading.problem_type is not None:
            raise Unprocessable("a composition has the labels and problem types of its own heads")
        if reading.task_id is not None:
            raise Unprocessable("--task-id was given, but this is a composition of adapters, none of several tasks")
        if spec is None:
            found = setup.read(source, profile)
            return _tagged(client, push_setup(client, found, name, profile, promote=wish.promote), wish)
    answer = client.targets.put(
        name, dict(spec.adapters), embedding=spec.embedding, head=spec.head, promote=wish.promote
    )
    tables.note(tables.published(answer))
    return _tagged(client, answer, wish)


def dry_run(client: Client, reading: Reading, name: str, *, text: str | None = None) -> list[InspectionAnswer]:
    """What the service says of a package, or of every part of a saved setup; nothing is stored."""
    with opened(reading, client) as (source, profile):
        if _target(source) is not None:
            raise Unprocessable("a target has no weights to check: `chorus target put` checks what it names")
        if setup.is_setup(source):
            found = [
                (part.package, native.write(part.package), part.name)
                for part in parts(setup.read(source, profile), parse_name(name))
            ]
        else:
            ready = read(reading, source, profile)
            found = [(ready.package, ready.native, name)]
        return [
            space_of(client, embedding=package.manifest.kind == "embedding").validate(called, data, text=text)
            for package, data, called in found
        ]


def _tagged(client: Client, answer: Any, wish: Wish, *, embedding: bool = False) -> Any:
    """The answer, after its version was tagged: those tags that it has already stay."""
    if wish.tags:
        space = space_of(client, embedding=embedding)
        retag(space, f"{answer['name']}@{answer['version']}", wish.tags)
    return answer


def _target(source: Path) -> TargetSpec | None:
    """What a pulled target stands for: names with digests, which the service must hold."""
    return native.preparse(source).manifest.target if source.is_file() else None
