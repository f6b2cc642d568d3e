"""The checker: one replica for all gateways, which keeps the process in which uploads are read."""

import asyncio
from pathlib import Path

from adapters.architectures.profile import BackboneProfile
from serving.config import ServiceSettings
from serving.errors import ServiceError
from serving.registry.checker import Checker
from serving.registry.records import CheckReport, MatrixJob
from serving.replicas.surroundings import CHECKER, settle


class CheckerReplica:
    """A thin shell over `serving.registry.checker.Checker`."""

    def __init__(self, settings: ServiceSettings, profile: BackboneProfile) -> None:
        settle(settings, CHECKER)
        self._checker = Checker(profile, settings.backbone)
        # Ray Serve constructs on the replica's event loop. The worker takes seconds to start: not in the first upload.
        self._starting = asyncio.get_running_loop().create_task(self._checker.start())

    async def check(self, path: str) -> CheckReport | ServiceError:
        """What is in the file, or why it is refused: returned, because Ray wraps what is raised."""
        try:
            return await self._checker.check(Path(path))
        except ServiceError as error:
            return error

    async def build(self, job: MatrixJob, target: str) -> ServiceError | None:
        """Write the package of a new vocabulary to a file, or say why not."""
        try:
            await self._checker.build(job, Path(target))
        except ServiceError as error:
            return error
        return None
