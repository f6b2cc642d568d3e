"""On what it ran: hardware, versions, and who else was there."""

import os
import platform
import resource
import subprocess
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("torch", "transformers", "ray", "tokenizers", "numpy", "fastapi", "uvicorn")
_TICK = os.sysconf("SC_CLK_TCK")


def environment() -> dict[str, Any]:
    """The machine that sends the load; of a service of our own it is the same one."""
    return {
        "machine": platform.machine(),
        "processor": processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "system": platform.platform(),
        "load_average": list(os.getloadavg()),
        "python": platform.python_version(),
        **{name: found for name in PACKAGES if (found := _version(name))},
        "commit": commit(),
    }


def processor() -> str:
    """The processor's name, as it says it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor())


def commit() -> str:
    """What is checked out, with `+` where files differ from it; empty outside of a repository."""
    try:
        known = ["git", "-C", str(ROOT)]
        head = subprocess.run([*known, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True)  # noqa: S603
        dirty = subprocess.run([*known, "status", "--porcelain"], capture_output=True, text=True, check=True)  # noqa: S603
    except (OSError, subprocess.CalledProcessError):
        return ""
    return head.stdout.strip() + ("+" if dirty.stdout.strip() else "")


def accelerator(device: str) -> str:
    """What a service of our own computes on beside the processor: the GPUs' names, as `nvidia-smi` tells them."""
    if device == "cpu":
        return "none"
    words = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    try:
        told = subprocess.run(words, capture_output=True, text=True, check=True, timeout=60)  # noqa: S603
    except (OSError, subprocess.SubprocessError):
        return f"{device}, unknown to nvidia-smi"
    return ", ".join(told.stdout.splitlines())


def busy_seconds() -> float:
    """What all of the machine's cores have worked so far, steal included."""
    fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
    user, nice, system, _, _, irq, softirq, steal = map(int, fields[:8])
    return (user + nice + system + irq + softirq + steal) / _TICK


def cpu_seconds(pids: Iterable[int]) -> float:
    """What processes have used so far, of all their threads; those that ended count nothing."""
    total = 0
    for pid in pids:
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        total += int(fields[11]) + int(fields[12])
    return total / _TICK


def ended_seconds() -> float:
    """What processes that this one started, and that have ended, had used."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""
