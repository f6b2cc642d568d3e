"""Where what a user names lies: a folder or file, or a repository of the Hugging Face hub; pickles become tensors."""

import tempfile
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from huggingface_hub import snapshot_download

from adapters.errors import InvalidName
from adapters.formats import converter

_WANTED = ("*.json", "*.safetensors", "*.txt", "*.model", "pytorch_*.bin", "adapter_model.bin", "*.pt")
_MODEL = ("*.json", "*.safetensors", "*.txt", "*.model")


def model_folder(name: str | Path) -> Path:
    """A model's folder, fetched if `name` is a repository and no folder; raises `FileNotFoundError`."""
    return _fetched(name, _MODEL)


@contextmanager
def readable(name: str | Path) -> Iterator[Path]:
    """A folder or file without pickles; what holds some is converted by a subprocess, which reads tensors alone."""
    source = _fetched(name, _WANTED)
    if not source.is_dir() or not converter.needs_conversion(source):
        yield source
        return
    with tempfile.TemporaryDirectory(prefix="chorus-") as scratch:
        yield converter.convert(source, Path(scratch) / source.name)


def tell(name: str | Path, said: Iterable[str]) -> None:
    """Warn whoever called the verb that calls this of what a reader has to say of what it read."""
    for text in said:
        warnings.warn(f"{name}: {text}", stacklevel=3)


def below(folder: str | Path, name: str) -> Path:
    """The place of a name's folder inside of another; raises `InvalidName` for a name that leads anywhere else."""
    inside = Path(name)
    if not inside.parts or inside.is_absolute() or ".." in inside.parts or "\0" in name:
        raise InvalidName(f"{name!r} names no place inside of a folder: load or add it under another name (load_as)")
    return Path(folder) / inside


def _fetched(name: str | Path, patterns: tuple[str, ...]) -> Path:
    if Path(name).exists():
        return Path(name)
    repository, _, revision = str(name).removeprefix("hf:").partition("@")
    if isinstance(name, Path) or repository.count("/") > 1 or repository.startswith((".", "/")):
        raise FileNotFoundError(f"there is no {name}")
    try:
        return Path(snapshot_download(repository, revision=revision or None, allow_patterns=list(patterns)))
    except (OSError, ValueError) as error:  # what the client raises for no such repository, and for no network
        raise FileNotFoundError(f"there is no folder {name}, and no repository of that name: {error}") from error
