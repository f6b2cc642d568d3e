"""Names of activations, as the present library spells them."""

from collections.abc import Mapping
from typing import Any

# Before configurations had a version, these names meant other functions.
_OLD: Mapping[str, str] = {"gelu": "gelu_new", "gelu_orig": "gelu"}


def activation(name: Any, *, versioned: bool) -> str:
    """An activation's present name; `versioned`: whether the configuration says which library wrote it."""
    text = str(name)
    return (text if versioned else _OLD.get(text, text)).lower()


def modernised(config: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration without a version, with the present names of its activations, also those of its parts."""
    changed = dict(config)
    if isinstance(config.get("non_linearity"), str):
        changed["non_linearity"] = activation(config["non_linearity"], versioned=False)
    if isinstance(config.get("configs"), list):
        changed["configs"] = [modernised(c) if isinstance(c, Mapping) else c for c in config["configs"]]
    return changed
