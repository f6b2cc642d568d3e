"""How many engines of how many threads a machine gets where nobody says: by its cores and its memory.

On a CPU engines of one thread each answer more than one of all threads (`python -m loadtests.micro.workers`), so there
are as many as gateways leave cores and as memory holds. Where that is a single one it has all the cores: alone, with one
thread, it would leave some of them idle. Beside a GPU, and in a cluster whose machines are others', it is one.
"""

import os
from dataclasses import dataclass, replace
from pathlib import Path

from serving.config import ServiceSettings

SHARE = 0.8  # of the memory that is free: the rest is for gateways, the front, and the pages of files
PROCESS_BYTES = 768 << 20  # of an engine besides weights and caches: torch, Ray, and what a pass needs
COPIES = 2  # of the weights: as they are, and as the compiled kernels want them
_CGROUP = Path("/sys/fs/cgroup")  # of this container, or of the machine


@dataclass(frozen=True)
class Machine:
    """What a service may use: cores, and bytes of memory that are free."""

    cores: int
    free_bytes: int

    @classmethod
    def here(cls, meminfo: Path = Path("/proc/meminfo"), cgroup: Path = _CGROUP) -> "Machine":
        """The machine of this process, within the limits of its container (cgroup 2) and the cores that it may use."""
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        quota = _words(cgroup / "cpu.max")
        if len(quota) == 2 and quota[0] != "max":
            cores = min(cores, max(1, int(quota[0]) // int(quota[1])))
        return cls(cores, _free(meminfo, cgroup))


def sized(settings: ServiceSettings, machine: Machine) -> tuple[ServiceSettings, str]:
    """The settings with engines and threads that are numbers, and why these; what was given stays."""
    if settings.engines:
        return settings, "as given"
    if settings.on_gpu or settings.ray_address:
        why = "one holds the GPU" if settings.on_gpu else "the cores of a cluster are counted by whoever runs it"
        return replace(settings, engines=1), why
    spare = max(1, machine.cores - settings.gateways)
    each = COPIES * weights_bytes(settings.backbone) + settings.cache.device_bytes + settings.cache.host_bytes
    held = max(1, int(machine.free_bytes * SHARE) // (each + PROCESS_BYTES))
    engines = max(1, min(spare // max(1, settings.threads), held))
    threads = settings.threads or (machine.cores if engines == 1 else max(1, spare // engines))
    why = (
        f"{machine.cores} cores beside {settings.gateways} gateways, and "
        f"{machine.free_bytes / 2**30:.1f} GiB free for engines of {(each + PROCESS_BYTES) / 2**30:.1f} GiB"
    )
    return replace(settings, engines=engines, threads=threads), why


def weights_bytes(folder: Path) -> int:
    """Bytes of a backbone's weights as they are stored."""
    return sum(file.stat().st_size for file in folder.glob("*.safetensors"))


def _free(meminfo: Path, cgroup: Path) -> int:
    """Bytes that can be had: what the machine tells as available, or what the container's limit leaves of it."""
    told = {line.split(":")[0]: line.split()[1] for line in meminfo.read_text().splitlines() if line.endswith("kB")}
    free = int(told["MemAvailable"]) * 1024
    limit, used = _words(cgroup / "memory.max"), _words(cgroup / "memory.current")
    if limit and used and limit[0] != "max":
        free = min(free, max(0, int(limit[0]) - int(used[0])))
    return free


def _words(path: Path) -> list[str]:
    try:
        return path.read_text().split()
    except OSError:  # no cgroup 2, or no limit at this level
        return []
