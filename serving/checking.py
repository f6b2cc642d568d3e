"""The registry's checker where it is a deployment of its own: questions over its handle, refusals raised here."""

from pathlib import Path
from typing import Any

from serving.asking import LOST
from serving.errors import NotReady, ServiceError
from serving.registry.inspection import Inspection
from serving.registry.records import CheckReport, MatrixJob


class RemoteChecker:
    """Implements the registry's checker over the handle of the `Checker` deployment."""

    def __init__(self, checkers: Any) -> None:
        self._check = checkers.options(method_name="check")
        self._inspect = checkers.options(method_name="inspect")
        self._build = checkers.options(method_name="build")

    async def check(self, path: Path) -> CheckReport:
        """What is in the file. Raises the refusal that the checker answered with, or `NotReady`."""
        report: CheckReport = await _unwrapped(self._check, str(path))
        return report

    async def inspect(self, path: Path, text: str) -> Inspection:
        """What is in the file, what it touches, and what it answers to a text; raises as `check` does."""
        found: Inspection = await _unwrapped(self._inspect, str(path), text)
        return found

    async def build(self, job: MatrixJob, target: Path) -> None:
        """Have the package of a new vocabulary written to a file; raises as `check` does."""
        await _unwrapped(self._build, job, str(target))


async def _unwrapped(call: Any, *args: object) -> Any:
    """What the checker answers; raises it where it is a refusal, and `NotReady` where there is no answer."""
    try:
        answer = await call.remote(*args)
    except LOST as error:
        raise NotReady("the checker was lost on the way; try again", retry_after=1.0) from error
    if isinstance(answer, ServiceError):
        raise answer
    return answer
