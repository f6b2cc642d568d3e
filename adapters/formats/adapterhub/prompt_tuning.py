"""Prompt tuning: one matrix for the model."""

from collections.abc import Iterator, Mapping
from typing import Any

from adapters.formats.adapterhub.host import Host
from adapters.formats.adapterhub.keys import Key
from adapters.formats.adapterhub.wording import Layout, Wording
from adapters.methods import parts
from adapters.methods.presets import PROMPT_CONFIG


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
    PROMPT_CONFIG,
    ("prompt_init", "prompt_init_text", "random_uniform_scale", "init_weights_seed"),
    parts.prompt,
)
LAYOUT = Layout(keys, write)
