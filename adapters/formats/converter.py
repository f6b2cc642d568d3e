"""Pickled checkpoints -> the same folders in safetensors, in a subprocess that may read tensors and nothing else.

This runs on the operator's machine, never in the service. The subprocess (`convert_worker`) has a memory and a time
limit; this process touches no pickle, and reads nothing of what the subprocess made.
"""

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from adapters.errors import InvalidPackage, UnsafeFile
from adapters.formats.files import PICKLED

TIMEOUT_S = 300.0
MEMORY_BYTES = 8 << 30
_WEIGHTS = {**PICKLED, "model_adapter_fusion.safetensors": "pytorch_model_adapter_fusion.bin"}


def needs_conversion(folder: Path) -> bool:
    """Whether a folder holds weights only as pickles."""
    return bool(_jobs(folder))


def convert(
    folder: Path,
    destination: Path | None = None,
    *,
    timeout_s: float = TIMEOUT_S,
    memory_bytes: int = MEMORY_BYTES,
) -> Path:
    """The same folder with safetensors in place of pickles, in `destination` (default: a new temporary folder).

    Copied are weights, JSON files and the tokenizer. Raises `UnsafeFile` where a pickle holds more than tensors or goes
    over a limit, `InvalidPackage` where there is nothing to convert.
    """
    jobs = _jobs(folder)
    if not jobs and not any((folder / name).is_file() for name in _WEIGHTS):
        raise InvalidPackage(f"{folder.name} holds no weights: none of {', '.join(_WEIGHTS.values())}")
    made = destination or Path(tempfile.mkdtemp(prefix="chorus-convert-"))
    made.mkdir(parents=True, exist_ok=True)
    for source in sorted(folder.glob("*.json")) + [folder / name for name in _WEIGHTS if (folder / name).is_file()]:
        shutil.copyfile(source, made / source.name)
    if (folder / "tokenizer").is_dir():
        shutil.copytree(folder / "tokenizer", made / "tokenizer", dirs_exist_ok=True)
    try:
        for source, target in jobs.items():
            _run(source.resolve(), (made / target).resolve(), timeout_s, memory_bytes)
    except UnsafeFile:
        if destination is None:
            shutil.rmtree(made)
        raise
    return made


def _jobs(folder: Path) -> dict[Path, str]:
    """Pickle -> name of the safetensors file that is not there yet."""
    return {
        folder / pickled: name
        for name, pickled in _WEIGHTS.items()
        if (folder / pickled).is_file() and not (folder / name).is_file()
    }


def _run(source: Path, target: Path, timeout_s: float, memory_bytes: int) -> None:
    command = [sys.executable, "-m", "adapters.formats.convert_worker", str(source), str(target), str(memory_bytes)]
    root = Path(__file__).parents[2]
    try:
        done = subprocess.run(command, cwd=root, capture_output=True, timeout=timeout_s, check=False)  # noqa: S603 - our own module, paths as arguments
    except subprocess.TimeoutExpired as error:
        raise UnsafeFile(f"{source.name} could not be converted within {timeout_s:g} s") from error
    try:
        answer = json.loads(done.stdout)
        reason = answer["error"]
    except (ValueError, KeyError, TypeError):
        reason = f"the conversion died (exit status {done.returncode}); it may need more memory than is allowed"
    if reason is not None or done.returncode != 0:
        raise UnsafeFile(f"{source.name} was not converted: {reason}")
