"""The two libraries: their environments, and their workers as processes."""

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from loadtests.peers.environments import interpreter

WORKERS = Path(__file__).parent / "workers"
WORKER_S = 1800.0
UNABLE = "unable.json"


class WorkerFailed(Exception):
    """A library's process ended badly, which no case can be blamed for."""


@dataclass(frozen=True)
class Library:
    """One library and the Python of its environment."""

    name: str
    python: Path

    @classmethod
    def of(cls, name: str, cache: Path) -> "Library":
        """Its environment as `loadtests.peers` makes it: once, until its requirements change. Raises `PeerFailed`."""
        return cls(name, interpreter(name, cache))

    def make(self, root: Path, seeds: Mapping[str, int]) -> None:
        """Make cases below `root`, by name and seed."""
        self._run("make", root, [f"{name}={seed}" for name, seed in seeds.items()])

    def load(self, root: Path, names: Sequence[str]) -> None:
        """Load cases that were written below `root`, and put their outputs in."""
        self._run("load", root, list(names))

    def unable(self, root: Path, name: str) -> str | None:
        """Why the library could not make or load a case; None where it could."""
        path = root / self.name / name / UNABLE
        return str(json.loads(path.read_text())["reason"]) if path.is_file() else None

    def _run(self, verb: str, root: Path, words: list[str]) -> None:
        if not words:
            return
        command = [str(self.python), str(WORKERS / f"{self.name}_worker.py"), verb, str(root / self.name), *words]
        surroundings = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
        surroundings |= {"HF_HUB_OFFLINE": "1", "PYTHONDONTWRITEBYTECODE": "1", "PYTHONNOUSERSITE": "1"}
        done = subprocess.run(command, env=surroundings, capture_output=True, text=True, check=False, timeout=WORKER_S)
        if done.returncode:
            raise WorkerFailed(f"{self.name} {verb}: {done.stderr.strip()[-800:]}")
