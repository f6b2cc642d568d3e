"""Compacter: bottlenecks of PHM layers, in all the ways in which their modules share parameters.

What modules share lies beside the layers, under `shared_parameters`; a base model's own save leaves that out.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from adapters.formats.adapterhub import bottleneck
from adapters.formats.adapterhub.host import Host
from adapters.formats.adapterhub.keys import Key
from adapters.formats.adapterhub.wording import Layout
from adapters.methods.compacter import SHARED
from adapters.methods.parts import PHM_FLAGS, PHM_NUMBERS


def keys(config: Mapping[str, Any], name: str, host: Host) -> Iterator[Key]:
    """Each module's own blocks, rules and biases, then what all of them share."""
    blocks = ("W_left", "W_right") if config["factorized_W"] else ("W",)
    rules = ("rule_left", "rule_right") if config["factorized_rule"] else ("rule",)
    for text, stem, down in bottleneck.modules(config, name, host):
        for ours, module in (("down", down), ("up", f"{stem}.adapter_up")):
            if not config["shared_W"]:
                yield from (Key(f"{module}.{block}", (f"{text}/{ours}.{block}",)) for block in blocks)
            if not config["shared_rule"]:
                yield from (Key(f"{module}.phm_{rule}", (f"{text}/{ours}.{rule}",)) for rule in rules)
            if config["phm_bias"]:
                yield Key(f"{module}.b", (f"{text}/{ours}.b",))
        yield from bottleneck.extras(config, text, stem)
    shared = f"shared_parameters.{name}"
    if config["shared_W"]:
        for ours in ("down", "up"):
            for block in blocks:
                yield Key(f"{shared}.{block.replace('W', f'W_{ours}')}", (f"{SHARED}/{ours}.{block}",))
    if config["shared_rule"]:
        yield from (Key(f"{shared}.phm_{rule}", (f"{SHARED}/{rule}",)) for rule in rules)


def write(config: Mapping[str, Any], host: Host) -> dict[str, Any]:
    """A configuration that reads as the same part."""
    phm = {theirs: config[ours] for theirs, ours in {**PHM_NUMBERS, **PHM_FLAGS}.items()}
    return {**bottleneck.write(config, host), "phm_layer": True, **phm}


LAYOUT = Layout(keys, write)
