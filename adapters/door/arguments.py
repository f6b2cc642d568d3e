"""Arguments of AdapterHub's verbs that mean nothing here, and those that mean the same under another name."""

from collections.abc import Mapping, Sequence
from typing import Any

Names = Mapping[int, str] | None

_REMEDIES: Mapping[str, str] = {
    "version": "name the revision after the repository, as in 'owner/repository@revision'",
    "model_name": "a folder says itself what it was made for, and that is checked",
    "custom_weights_loaders": "only what the formats know is read and written: publish anything else on its own",
    "leave_out": "skip layers when the adapter is used: set_active_adapters(name, skip_layers=[...])",
    "use_safetensors": "no pickle is ever written: let AdapterHub load what is saved with use_safetensors=True",
    "meta_dict": "the configuration's members are fixed: write notes to a file of your own beside it",
}
_USUAL: Mapping[str, Any] = {"use_safetensors": True}  # what says nothing


def refuse(verb: str, **given: Any) -> None:
    """Raise `TypeError`, with the remedy, for the first argument that is given although nothing would come of it."""
    for name, value in given.items():
        if value is not None and value != [] and value is not _USUAL.get(name):
            raise TypeError(f"{verb} takes no {name}{'=False' if value is False else ''}: {_REMEDIES[name]}")


def labels_of(names: Names, count: int) -> tuple[str, ...] | None:
    """The names in the order of their ids; raises `ValueError` where the ids are not 0 .. count-1."""
    if names is None:
        return None
    if sorted(names) != list(range(count)):
        raise ValueError(f"id2label must name the labels 0 to {count - 1}, not {sorted(names)}")
    return tuple(names[i] for i in range(count))


def labels_to_load(names: Names, labels: Sequence[str] | None) -> Sequence[str] | None:
    """The labels that a loaded head is to have, given as either of both; raises `ValueError`."""
    if names is not None and labels is not None:
        raise ValueError("id2label and labels say the same: give one of them")
    return labels if names is None else labels_of(names, len(names))
