"""How much memory the process that reads uploads may use, and that it writes no files."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

_COPIES = 4  # of the stored weights: read, widened to float32, and what loading holds besides
_LIBRARIES = 1 << 30  # private memory that transformers takes


@dataclass(frozen=True)
class Confinement:
    """`memory_bytes` of private memory for one check, beyond what the process holds between checks."""

    memory_bytes: int

    @classmethod
    def begin(cls, memory_bytes: int, backbone: Path | None) -> Self:
        """Cap what may be used from now on; a backbone in this folder may be loaded beside it, once."""
        stored = 0 if backbone is None else sum(file.stat().st_size for file in backbone.glob("*.safetensors"))
        cap = _private() + memory_bytes
        resource.setrlimit(resource.RLIMIT_DATA, (cap, cap + _COPIES * stored + _LIBRARIES))
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        return cls(memory_bytes)

    @contextmanager
    def loading(self) -> Iterator[None]:
        """Within it the allowance for a backbone may be used; after it, a check may use as much as before."""
        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        resource.setrlimit(resource.RLIMIT_DATA, (hard, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_DATA, (min(hard, _private() + self.memory_bytes), hard))


def _private() -> int:
    """Bytes of private memory in use."""
    used = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmData"))
    return int(used.split()[1]) * 1024
