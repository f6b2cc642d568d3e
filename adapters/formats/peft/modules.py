"""Which modules a PEFT configuration adapts, and with which rank and alpha: PEFT's own matching rules (0.21).

Lists match a module's whole path or its end, text matches as a regular expression over the whole path; patterns of
`rank_pattern` and `alpha_pattern` match the end of the path, the first that does.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from adapters.architectures.record import Architecture
from adapters.architectures.sites import SITES, TABLES, Address, SiteKind
from adapters.errors import Misfit
from adapters.formats.peft.expressions import beginning, full

ALL_LINEAR = "all-linear"


def modules(family: Architecture, layers: int) -> dict[str, Address]:
    """Path below the base model -> address, of every linear map that can be adapted; maps of several sites as a whole.

    Tables of vectors are not among them.
    """
    linear = (
        a
        for a in family.addresses(layers)
        if SITES[a.site] is SiteKind.LINEAR and a.site not in family.addends and a.site not in TABLES
    )
    single = (address for address in linear if family.fused(address) is None)
    return {family.linear_path(address): address for address in (*single, *family.wholes(layers))}


def fused_modules(family: Architecture, layers: int) -> dict[str, tuple[Address, ...]]:
    """Path -> the sites of a map that is several (GPT-2's queries, keys and values), in the order of its rows."""
    return {family.linear_path(address): family.parts(address) for address in family.wholes(layers)}


def targeted(config: Mapping[str, Any], path: str) -> bool:
    """Whether PEFT adapts the module at this path; raises `Misfit` for a pattern that is no regular expression."""
    wanted = config.get("target_modules")
    try:
        if by_parameter(config, path):
            return True
        if _excluded(config, path):
            return False
        named = not isinstance(wanted, str) and path in (wanted or ())  # in full: whatever layer it is of
        return named or (_matches(wanted, path) and _in_layers(config, path))
    except TypeError as error:
        raise Misfit([f"a module pattern of adapter_config.json can not be read: {error}"]) from error


def by_parameter(config: Mapping[str, Any], path: str) -> bool:
    """Whether PEFT adapts the weight of the module at this path as a bare parameter."""
    weight = f"{path}.weight"
    return any(weight == name or weight.endswith(f".{name}") for name in config.get("target_parameters") or ())


def of_pattern(patterns: Mapping[str, Any] | None, path: str, default: Any, *, below: bool = False) -> Any:
    """The value of the first pattern that matches the end of the path; raises `Misfit` for one that is none.

    `below`: as PEFT's older tuners match, which want something in front of it, and else the whole path, letter by letter.
    """
    for pattern, value in (patterns or {}).items():
        if beginning(rf".*\.{pattern}$" if below else rf"(.*\.)?({pattern})$", path):
            return value
    return (patterns or {}).get(path, default) if below else default


def is_feed_forward(config: Mapping[str, Any], path: str) -> bool:
    """Whether (IA)3 scales this module's input; raises `Misfit` for a pattern that is no regular expression."""
    wanted = config.get("feedforward_modules")
    if isinstance(wanted, str):
        return full(wanted, path) is not None
    return any(path.endswith(str(end)) for end in wanted or ())


def _matches(wanted: str | Sequence[str] | None, path: str) -> bool:
    if wanted is None:
        return False
    if isinstance(wanted, str):
        return wanted == ALL_LINEAR or full(wanted, path) is not None
    return any(path == end or path.endswith(f".{end}") for end in wanted)


def _excluded(config: Mapping[str, Any], path: str) -> bool:
    saved = config.get("modules_to_save") or ()
    if any(beginning(rf"(^|.*\.){name}($|\..*)", path) for name in saved):
        return True
    excluded = config.get("exclude_modules")
    return bool(excluded) and excluded != ALL_LINEAR and _matches(excluded, path)


def _in_layers(config: Mapping[str, Any], path: str) -> bool:
    """Whether `layers_to_transform` keeps the path; it counts only beside a list of targets."""
    wanted = config.get("layers_to_transform")
    if wanted is None or wanted == [] or isinstance(config.get("target_modules"), str):
        return True
    patterns = config.get("layers_pattern")
    expressions = [rf"(?:^|.*?\.){p}\.(\d+)\." for p in ([patterns] if isinstance(patterns, str) else patterns or ())]
    for expression in expressions or [r".*?\.[^.]*\.(\d+)\."]:
        found = beginning(expression, path)
        if found:
            return int(found.group(1)) in ([wanted] if isinstance(wanted, int) else wanted)
    return False
