"""`chorus push`: one package, a saved setup of AdapterHub (which becomes a target), or a pulled target."""

from pathlib import Path
from typing import Any

from adapters.formats import native
from adapters.formats.adapterhub import setup
from adapters.manifest import TargetSpec
from serving.client import Client
from serving.commands import tables
from serving.commands.packages import Reading, opened, publish, read
from serving.commands.setups import push_setup
from serving.errors import Unprocessable


def push(client: Client, reading: Reading, name: str, *, promote: bool, embedding: bool) -> Any:
    """Publish whatever the source is; the answer as JSON. Raises `Misfit`, `UnsafeFile` or the service's refusal."""
    with opened(reading, client) as (source, profile):
        spec = _target(source)
        if spec is None and not setup.is_setup(source):
            return publish(client, read(reading, source, profile), name, promote=promote, embedding=embedding)
        if embedding:
            raise Unprocessable("--embedding was given, but this is a composition of adapters")
        if reading.labels is not None or reading.problem_type is not None:
            raise Unprocessable("a composition has the labels and problem types of its own heads")
        if spec is None:
            return push_setup(client, setup.read(source, profile), name, profile, promote=promote)
    answer = client.targets.put(name, dict(spec.adapters), embedding=spec.embedding, head=spec.head, promote=promote)
    tables.note(tables.published(answer))
    return answer


def _target(source: Path) -> TargetSpec | None:
    """What a pulled target stands for: names with digests, which the service must hold."""
    return native.preparse(source).manifest.target if source.is_file() else None
