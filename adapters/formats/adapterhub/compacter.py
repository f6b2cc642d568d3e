"""Compacter: bottlenecks of PHM layers, in all the ways in which their modules share parameters.

What modules share lies beside the layers, under `shared_parameters`; a base model's own save leaves that out.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from adapters.formats.adapterhub import bottleneck
from adapters.formats.adapterhub.host import Host
from adapters.formats.adapterhub.keys import Key
from adapters.formats.adapterhub.wording import Layout
from adapters.manifest import PartSpec

SHARED = "model/compacter"
# Native member -> (AdapterHub's member, the default of BnConfig).
SETTINGS: Mapping[str, tuple[str, Any]] = {
    "phm_dim": ("phm_dim", 4),
    "phm_rank": ("phm_rank", 1),
    "phm_bias": ("phm_bias", True),
    "factorized_W": ("factorized_phm_W", True),
    "factorized_rule": ("factorized_phm_rule", False),
    "shared_W": ("shared_W_phm", False),
    "shared_rule": ("shared_phm_rule", True),
}
TRAINING = ("phm_c_init", "phm_init_range", "learn_phm", "hypercomplex_nonlinearity")


def read(config: Mapping[str, Any], host: Host) -> Iterator[PartSpec]:
    """The part, if the configuration adapts a site at all."""
    members = bottleneck.settings(config, host)
    if not members["sites"]:
        return
    phm = {ours: config.get(theirs, default) for ours, (theirs, default) in SETTINGS.items()}
    if phm["shared_W"] and isinstance(config["reduction_factor"], Mapping):
        raise ValueError("shared_W_phm needs one reduction factor for all layers")
    flags = {name: bool(value) for name, value in phm.items() if name not in ("phm_dim", "phm_rank")}
    yield PartSpec("compacter", {**members, **phm, **flags})


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
    phm = {theirs: config[ours] for ours, (theirs, _) in SETTINGS.items()}
    return {**bottleneck.write(config, host), "phm_layer": True, **phm}


LAYOUT = Layout(keys, write)
