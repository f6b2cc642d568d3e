"""What a proof is given: a folder of its own, a seed, and whether it is to be the small run or the whole one."""

import os
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Given:
    """One run. `folder` is there, and empty; `quick` asks for the same checks on less."""

    folder: Path
    seed: int = 0
    quick: bool = False

    def sized(self, whole: T, quick: T) -> T:
        """The size of the whole run, or that of a quick one."""
        return quick if self.quick else whole


def hardware() -> dict[str, object]:
    """The machine, as far as a figure depends on it."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    cores = len(os.sched_getaffinity(0))
    return {"cores": cores, "memory_bytes": memory, "machine": platform.machine(), "python": platform.python_version()}
