"""Configurations as AdapterHub's users write them: presets with overrides, unions, dictionaries, or native parts."""

import ast
import re
from collections.abc import Mapping, Sequence
from typing import Any

from adapters.architectures.profile import BackboneProfile
from adapters.errors import Misfit
from adapters.formats.adapterhub.envelope import WRITTEN_VERSION
from adapters.formats.adapterhub.host import host_of
from adapters.formats.adapterhub.parts import read_parts, write_config
from adapters.manifest import PartSpec
from adapters.methods.fold import fitting_of
from adapters.methods.presets import parts_of
from adapters.methods.table import METHODS

DEFAULT_CONFIG = "seq_bn"
Config = str | Mapping[str, Any] | Sequence[PartSpec] | None

_PRESET = re.compile(r"([^\[\]|]+)(?:\[([^\[\]]*)\])?")


def parts(config: Config, overrides: Mapping[str, Any], profile: BackboneProfile) -> tuple[PartSpec, ...]:
    """The parts that a configuration means on a backbone; raises `Misfit` with every reason.

    `None` (seq_bn), `"lora[r=4,alpha=8]"`, `"a|b"` (a union; overrides hold for each), the dictionary of a saved
    `adapter_config.json` (its member `config`), or the parts of a package.
    """
    config = DEFAULT_CONFIG if config is None else config
    if isinstance(config, str):
        return tuple(part for one in config.split("|") for part in _preset(one.strip(), overrides, profile))
    if overrides:
        raise Misfit(
            [f"{next(iter(overrides))!r} overrides a preset: in a dictionary or a list of parts, write it there"]
        )
    if isinstance(config, Mapping):
        return read_parts({"version": WRITTEN_VERSION, "config": config}, host_of(profile.geometry))
    made = tuple(part for part in config if isinstance(part, PartSpec)) if isinstance(config, Sequence) else ()
    if not made or len(made) != len(config):
        raise Misfit([f"a configuration is a preset, a dictionary or a list of parts, not {type(config).__name__}"])
    if unknown := [part.method for part in made if part.method not in METHODS]:
        raise Misfit([f"{unknown[0]!r} is no method; there are {', '.join(METHODS)}"])
    return made


def same(one: Sequence[PartSpec], other: Sequence[PartSpec], profile: BackboneProfile) -> bool:
    """Whether parts mean the same: parts of packages may leave out what is as usual, AdapterHub's words do not."""
    host = host_of(profile.geometry)
    try:
        return write_config(one, host) == write_config(other, host)
    except Misfit:
        return tuple(one) == tuple(other)


def _preset(text: str, overrides: Mapping[str, Any], profile: BackboneProfile) -> tuple[PartSpec, ...]:
    match = _PRESET.fullmatch(text)
    if match is None:
        remedy = "lists do not go in brackets, but in a keyword (leave_out=[0, 1]) or a dictionary"
        raise Misfit(
            [f"{text!r} is no configuration: write a preset, 'preset[r=4,alpha=8]', or several with '|'; {remedy}"]
        )
    given: dict[str, Any] = {}
    for pair in (match[2] or "").split(",") if match[2] else ():
        key, equals, value = (side.strip() for side in pair.partition("="))
        if not equals or not key or not value:
            raise Misfit([f"{pair!r} in {text!r} overrides nothing: write 'member=value'"])
        given[key] = _value(value)
    if twice := sorted(set(given) & set(overrides)):
        raise Misfit([f"{twice[0]!r} is given twice: in {text!r} and as a keyword"])
    return parts_of(match[1].strip(), fitting_of(profile), **given, **overrides)


def _value(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
