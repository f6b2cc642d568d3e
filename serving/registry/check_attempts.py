"""Trials in the process that reads uploads: what they need is imported and loaded at the first of them."""

from pathlib import Path
from typing import TYPE_CHECKING

from adapters.weights import Package
from serving.registry.confinement import Confinement
from serving.registry.inspection import Trial

if TYPE_CHECKING:
    from serving.registry.check_trial import Trials

NO_BACKBONE = "this service has no backbone to try it on"


class Attempts:
    """`check_trial.Trials`, made when somebody asks; a service that only publishes pays nothing for it."""

    def __init__(self, folder: Path | None, confinement: Confinement) -> None:
        self._folder = folder
        self._confinement = confinement
        self._trials: Trials | None = None

    def run(self, package: Package, text: str) -> tuple[Trial | None, str]:
        """See `check_trial.Trials.run`."""
        if self._folder is None:
            return None, NO_BACKBONE
        if self._trials is None:
            with self._confinement.loading():
                from serving.registry.check_trial import Trials  # noqa: PLC0415 - brings transformers

                self._trials = Trials.load(self._folder)
        return self._trials.run(package, text)
