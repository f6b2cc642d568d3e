"""Prompt tuning: one matrix for the model."""

from collections.abc import Iterator, Mapping
from typing import Any

from adapters.formats.adapterhub.host import Host
from adapters.formats.adapterhub.keys import Key
from adapters.formats.adapterhub.wording import Layout, Wording
from adapters.manifest import PartSpec


def read(config: Mapping[str, Any], _: Host) -> Iterator[PartSpec]:
    """The part."""
    yield PartSpec("prompt_tuning", {"length": config["prompt_length"], "at": config["combine"]})


def keys(_: Mapping[str, Any], name: str, __: Host) -> Iterator[Key]:
    """The prompt."""
    yield Key(f"prompt_tuning.prompt_tunings.{name}.prompt_embedding.weight", ("model/embed_out/prompt",))


def write(config: Mapping[str, Any], _: Host) -> dict[str, Any]:
    """A configuration that reads as the same part."""
    return {
        "architecture": "prompt_tuning",
        "prompt_length": config["length"],
        "combine": config["at"],
        "prompt_init": "random_uniform",
        "prompt_init_text": None,
    }


WORDING = Wording(
    "prompt tuning",
    ("prompt_length", "combine"),
    ("prompt_init", "prompt_init_text", "random_uniform_scale", "init_weights_seed"),
    read,
)
LAYOUT = Layout(keys, write)
