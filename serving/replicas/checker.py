"""The checker: one replica for all gateways, which keeps the process in which uploads are read."""

import asyncio
from pathlib import Path

from adapters.architectures.profile import BackboneProfile
from serving.config import ServiceSettings
from serving.errors import ServiceError
from serving.registry.checker import Checker
from serving.registry.records import CheckReport
from serving.replicas.surroundings import CHECKER, settle


class CheckerReplica:
    """A thin shell over `serving.registry.checker.Checker`."""

    def __init__(self, settings: ServiceSettings, profile: BackboneProfile) -> None:
        settle(settings, CHECKER)
        self._checker = Checker(profile)
        # Ray Serve constructs on the replica's event loop. The worker takes seconds to start: not in the first upload.
        self._starting = asyncio.get_running_loop().create_task(self._checker.start())

    async def check(self, path: str) -> CheckReport | ServiceError:
        """What is in the file, or why it is refused: returned, because Ray wraps what is raised."""
        try:
            return await self._checker.check(Path(path))
        except ServiceError as error:
            return error
