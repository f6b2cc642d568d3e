"""Copies of vendored cases that a test may spoil."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor

from tests.conformance.report import CaseOutcome
from tests.conformance.run import Options, run

DATA = Path(__file__).parent / "data"


def copied(tmp_path: Path, *cases: str) -> Path:
    """A small data folder of its own, with these cases and the backbones they need."""
    root = tmp_path / "open"
    for case in cases:
        shutil.copytree(DATA / case, root / case)
        name = json.loads((root / case / "case.json").read_text())["backbone"]
        shutil.copytree(DATA / "backbones" / name, root / "backbones" / name, dirs_exist_ok=True)
    return root


def change(root: Path, case: str, **changes: Callable[[Tensor], Tensor]) -> None:
    path = root / case / "expected.safetensors"
    tensors = load_file(path)
    for name, edit in changes.items():
        tensors[name.replace("__", ".")] = edit(tensors[name.replace("__", ".")].clone())
    save_file(tensors, path)


def outcome(root: Path, **options: Any) -> CaseOutcome:
    (found,) = run(Options(root, **options)).cases
    return found


def nudge(tensor: Tensor) -> Tensor:
    tensor.view(-1)[0] += 1e-3
    return tensor
