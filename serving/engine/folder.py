"""A cache folder of one engine process: claimed by a lock that ends with the process, so that the next one finds it warm."""

import fcntl
import itertools
import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Claim:
    """A folder that is this process's own until `release`, or until it dies."""

    folder: Path
    _lock: int

    def release(self) -> None:
        """Let another process have the folder; its files stay."""
        os.close(self._lock)


def claim(parent: Path) -> Claim:
    """The first of `parent/0`, `parent/1`, ... that no other process holds; raises `OSError` where the disk refuses."""
    parent.mkdir(parents=True, exist_ok=True)
    for number in itertools.count():
        descriptor = os.open(parent / f"{number}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            continue
        except OSError:
            os.close(descriptor)
            raise
        return Claim(parent / str(number), descriptor)
    raise AssertionError  # the count never ends
