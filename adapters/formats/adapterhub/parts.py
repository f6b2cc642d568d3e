"""The parts of an adapter: from AdapterHub's configuration, to its keys, and back to a configuration.

A method is one file of this folder and a line in each table. Every feature that is not served, and every member that
is missing, becomes a reason; nothing is guessed.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from adapters.errors import Misfit
from adapters.formats.adapterhub import (
    bottleneck,
    compacter,
    fusion,
    invertible,
    lora,
    prefix_tuning,
    prompt_tuning,
    reft,
)
from adapters.formats.adapterhub.activations import modernised
from adapters.formats.adapterhub.host import Host
from adapters.formats.adapterhub.keys import Key
from adapters.formats.adapterhub.wording import Layout, Wording
from adapters.manifest import PartSpec

# By the member `architecture`.
WORDINGS: Mapping[str | None, Wording] = {
    None: bottleneck.WORDING,
    "lora": lora.WORDING,
    "mtl_lora": lora.WORDING_MTL,
    "prefix_tuning": prefix_tuning.WORDING,
    "prompt_tuning": prompt_tuning.WORDING,
    "reft": reft.WORDING,
}
# By the method of a part; an invertible adapter has no configuration of its own.
LAYOUTS: Mapping[str, Layout] = {
    "bottleneck": bottleneck.LAYOUT,
    "compacter": compacter.LAYOUT,
    "lora": lora.LAYOUT,
    "ia3": lora.LAYOUT_IA3,
    "vera": lora.LAYOUT_VERA,
    "mtl_lora": lora.LAYOUT_MTL,
    "prefix_tuning": prefix_tuning.LAYOUT,
    "prompt_tuning": prompt_tuning.LAYOUT,
    "reft": reft.LAYOUT,
    "fusion": fusion.LAYOUT,
}
# Parts without `sites` that are one of a kind in an adapter, and methods whose modules share what lies beside them.
_WHOLE = ("prefix_tuning", "prompt_tuning", "invertible")
_SHARING = ("compacter", "vera")


def read_parts(saved: Mapping[str, Any], host: Host) -> tuple[PartSpec, ...]:
    """The parts of a whole `adapter_config.json`; raises `Misfit` with every reason."""
    config = _config(saved)
    reasons: list[str] = []
    parts = tuple(part for member in _members(config) for part in _read(member, host, reasons))
    reasons += _clashes(parts)
    if not parts and not reasons:
        reasons.append("the configuration adapts no module at all")
    if reasons:
        raise Misfit(reasons)
    return parts


def without_unused_inverse(
    parts: tuple[PartSpec, ...], saved: Mapping[str, Any], stored: Iterable[str]
) -> tuple[PartSpec, ...]:
    """The parts, less an invertible adapter that task adapters of 1.x were configured with and did not have."""
    if saved.get("type") != "text_task" or any("invertible" in key for key in stored):
        return parts
    return tuple(part for part in parts if part.method != "invertible")


def warnings(saved: Mapping[str, Any]) -> list[str]:
    """What the operator should know of a configuration that was read."""
    members = [member for member in _members(_config(saved)) if isinstance(member, Mapping)]
    return [text for member in members if member.get("architecture") == "reft" for text in reft.unsaid(member)]


def keys(parts: Iterable[PartSpec], name: str, host: Host) -> Iterator[Key]:
    """Every tensor of the adapter `name`; raises `Misfit` for a method that AdapterHub does not have."""
    for part in parts:
        if part.method == "invertible":
            yield from invertible.keys(part.config, name, host)
        else:
            yield from _layout(part).keys(part.config, name, host)


def write_config(parts: Sequence[PartSpec], host: Host) -> dict[str, Any]:
    """The configuration that AdapterHub reads as the same parts; raises `Misfit` where it has none."""
    inverses = [part.config for part in parts if part.method == "invertible"]
    prefixes = [part.config for part in parts if part.method == "prefix_tuning"] if host.crossing else []
    rest = [p for p in parts if p.method != "invertible" and not (prefixes and p.method == "prefix_tuning")]
    configs = [prefix_tuning.write_together(prefixes, host)] if prefixes else []
    configs += [_layout(part).write(part.config, host) for part in rest]
    if inverses:
        carrier = next((i for i, config in enumerate(configs) if config.get("architecture") is None), None)
        carried = invertible.add(inverses[0], None if carrier is None else configs.pop(carrier), host)
        configs.insert(carrier or 0, carried)
    return configs[0] if len(configs) == 1 else {"architecture": "union", "configs": configs}


def unwritable(parts: Iterable[PartSpec]) -> list[str]:
    """Why AdapterHub would compute something else than the parts, whatever a configuration says of them."""
    return [reason for part in parts if part.method == "reft" for reason in reft.unsaved(part.config)]


def _layout(part: PartSpec) -> Layout:
    layout = LAYOUTS.get(part.method)
    if layout is None:
        raise Misfit([f"AdapterHub has no {part.method}"])
    return layout


def _config(saved: Mapping[str, Any]) -> Mapping[str, Any]:
    config = saved.get("config")
    if not isinstance(config, Mapping):
        raise Misfit(["adapter_config.json has no 'config' object: only its name is known, not what it computes"])
    if _has_old_lora_scaling(saved, config):
        config = {**config, "alpha": config["r"]}
    return config if "version" in saved else modernised(config)


def _members(config: Mapping[str, Any]) -> list[Any]:
    if config.get("architecture") != "union":
        return [config]
    members = config.get("configs")
    if not isinstance(members, list) or not members:
        raise Misfit(["the union configuration lacks configs"])
    return members


def _read(config: Any, host: Host, reasons: list[str]) -> list[PartSpec]:
    architecture = config.get("architecture") if isinstance(config, Mapping) else None
    if not isinstance(config, Mapping) or architecture == "union":
        reasons.append("a part of the union is no configuration of a method")
    elif not isinstance(architecture, str | None) or architecture not in WORDINGS:
        reasons.append(f"AdapterHub's method {architecture!r} is not served yet")
    else:
        return WORDINGS[architecture].parts(invertible.respelled(config), host, reasons)
    return []


def _clashes(parts: Iterable[PartSpec]) -> Iterator[str]:
    """Parts of a union act at places of their own: what two methods at one place compute is not defined."""
    owner: dict[str, str] = {}
    for part in parts:
        places = [f"{layer}/layer_out" for layer in part.config["layers"]] if part.method == "reft" else []
        places += part.config.get("sites", ())
        places += [f"{_whole(part)}, as {part.method}"] if part.method in _WHOLE else []
        places += [f"what modules share, as {part.method}"] if part.method in _SHARING else []
        taken = next((place for place in places if place in owner), None)
        if taken is not None:
            yield f"two parts ({owner[taken]}, {part.method}) act at {taken}, which can not run in AdapterHub either"
        owner |= dict.fromkeys(places, part.method)


def _whole(part: PartSpec) -> str:
    """What a part is the only one of its kind in; an encoder-decoder has a prefix for each of its attentions."""
    site, layers = part.config.get("site", "attn_kv"), part.config.get("layers")
    return (
        "the whole model"
        if part.method != "prefix_tuning"
        else f"{site} of layers from {layers[0] if layers else 0} on"
    )


def _has_old_lora_scaling(saved: Mapping[str, Any], config: Mapping[str, Any]) -> bool:
    """Whether it was trained by adapters < 1.1.0, which scaled by 1 whatever alpha said (adapters pull request 770)."""
    version = str(saved.get("version", ""))
    if not version.startswith("adapters.") or config.get("architecture") != "lora" or "r" not in config:
        return False
    numbers = version.removeprefix("adapters.").split(".")
    return all(n.isdigit() for n in numbers[:2]) and tuple(map(int, numbers[:2])) < (1, 1)
