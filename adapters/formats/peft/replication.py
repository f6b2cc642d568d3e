"""PEFT's `layer_replication`: ranges of layers that run one after another, each with adapters of its own."""

from collections.abc import Mapping, Sequence
from typing import Any

from adapters.errors import Misfit
from adapters.methods.fold import LONGEST_ROUTE

SETTING = "layer_replication"


def route_of(config: Mapping[str, Any], layers: int) -> tuple[int, ...] | None:
    """The backbone's layers in the order in which they run; None: each once. Raises `Misfit`."""
    ranges = config.get(SETTING)
    if not ranges:
        return None
    if not isinstance(ranges, list) or not all(_is_range(one, layers) for one in ranges):
        raise Misfit(
            [f"{SETTING} must be a list of ranges [from, to] of the backbone's {layers} layers, not {ranges!r:.80}"]
        )
    count = sum(end - start for start, end in ranges)
    if count > LONGEST_ROUTE * layers:
        raise Misfit([f"{SETTING} makes {count} layers; at most {LONGEST_ROUTE * layers} can be run on this backbone"])
    route = tuple(layer for start, end in ranges for layer in range(start, end))
    return None if route == tuple(range(layers)) else route


def ranges_of(route: Sequence[int]) -> list[list[int]]:
    """A route in as few ranges as there are."""
    found: list[list[int]] = []
    for layer in route:
        if found and found[-1][1] == layer:
            found[-1][1] += 1
        else:
            found.append([layer, layer + 1])
    return found


def _is_range(value: object, layers: int) -> bool:
    if not isinstance(value, list) or len(value) != 2 or any(type(end) is not int for end in value):
        return False
    start, end = value
    return bool(0 <= start < end <= layers)
