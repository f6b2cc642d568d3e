"""The backbones of a service of our own: a tiny one with seeded weights, the demo's sentence encoder, or any folder."""

from pathlib import Path

import tokenizers

from loadtests.traffic.texts import Tokens
from serving.demo import find_model
from serving.errors import NotReady

TINY, MINILM = "tiny", "minilm"


class NoBackbone(Exception):
    """There is no such backbone; the message says what may be given."""


def backbone(name: str, folder: Path) -> Path:
    """The folder of a backbone by name or path; the tiny one is made in `folder`. Raises `NoBackbone`."""
    if name == TINY:
        from loadtests.proofs.backbones import tiny  # noqa: PLC0415 - it brings torch, which the other two do not need

        return tiny(folder / TINY, seed=0)
    if name == MINILM:
        try:
            return find_model()
        except NotReady as error:
            raise NoBackbone(f"--backbone {MINILM}: {error.detail}; or take --backbone {TINY}, or a folder") from error
    path = Path(name)
    for needed in ("config.json", "tokenizer.json"):
        if not (path / needed).is_file():
            raise NoBackbone(f"--backbone {name}: no {needed} there; give a model's folder, {TINY} or {MINILM}")
    return path


def measure(path: Path, longest: int) -> Tokens:
    """What the backbone's tokenizer makes of our words; `longest` is the longest row that it takes."""
    tokenizer = tokenizers.Tokenizer.from_file(str(path / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return Tokens.of(lambda text: len(tokenizer.encode(text).ids), longest)
