"""The checker: one replica for all gateways, which keeps the processes in which uploads are read.

Dry runs have a process of their own, started by the first of them: it holds the backbone, and no publish waits for it.
"""

import asyncio
from collections.abc import Awaitable
from pathlib import Path
from typing import TypeVar

from adapters.architectures.profile import BackboneProfile
from serving.config import ServiceSettings
from serving.errors import ServiceError
from serving.registry.checker import Checker
from serving.registry.inspection import Inspection
from serving.registry.records import CheckReport, MatrixJob
from serving.replicas.surroundings import CHECKER, settle

T = TypeVar("T")


class CheckerReplica:
    """A thin shell over two `serving.registry.checker.Checker`s."""

    def __init__(self, settings: ServiceSettings, profile: BackboneProfile) -> None:
        settle(settings, CHECKER)
        self._checker = Checker(profile, settings.backbone)
        self._trials = Checker(profile, settings.backbone)
        # Ray Serve constructs on the replica's event loop. The worker takes seconds to start: not in the first upload.
        self._starting = asyncio.get_running_loop().create_task(self._checker.start())

    async def check(self, path: str) -> CheckReport | ServiceError:
        """What is in the file, or why it is refused: returned, because Ray wraps what is raised."""
        return await _told(self._checker.check(Path(path)))

    async def inspect(self, path: str, text: str) -> Inspection | ServiceError:
        """The same for a dry run: what is in the file, what it touches, and what it answers to a text."""
        return await _told(self._trials.inspect(Path(path), text))

    async def build(self, job: MatrixJob, target: str) -> ServiceError | None:
        """Write the package of a new vocabulary to a file, or say why not."""
        return await _told(self._checker.build(job, Path(target)))


async def _told(work: Awaitable[T]) -> T | ServiceError:
    try:
        return await work
    except ServiceError as error:
        return error
