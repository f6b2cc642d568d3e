"""ReFT: one or two units behind each layer.

AdapterHub (adapters 1.3.0) neither stores whether a unit subtracts its projection, nor takes that from a configuration
that says it: what it loads always subtracts. A DiReFT that it saved comes back as a NoReFT, and computes as one. Here the
member is read where somebody wrote it, and a part that does not subtract is not written.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from adapters.formats.adapterhub.host import Host
from adapters.formats.adapterhub.keys import Key, pair
from adapters.formats.adapterhub.wording import Layout, Wording
from adapters.manifest import PartSpec
from adapters.methods import parts
from adapters.methods.presets import REFT_CONFIG
from adapters.methods.settings import Settings

UNSAID = (
    "AdapterHub does not store whether a ReFT without orthogonality subtracts its projection: it is read as one that "
    "does (NoReFT), which is what AdapterHub itself computes after loading; a DiReFT was trained as one that does not"
)

UNSAVED = (
    "AdapterHub loads every ReFT as one that subtracts its projection, so that a DiReFT would compute something else "
    "there: keep it as a native package"
)


def read(settings: Settings, host: Host) -> Iterator[PartSpec]:
    """The part, if the configuration adapts the layers' outputs."""
    made = list(parts.reft(settings, host))
    yield from made if settings.flag("output_reft") else ()


def unsaid(config: Mapping[str, Any]) -> Iterable[str]:
    """What the operator should know of a configuration of ReFT."""
    return [] if config.get("orthogonality") or "subtract_projection" in config else [UNSAID]


def unsaved(config: Mapping[str, Any]) -> Iterable[str]:
    """Why AdapterHub would compute something else than a part, whatever a configuration says of it."""
    return [] if config["subtract_projection"] else [UNSAVED]


def keys(config: Mapping[str, Any], name: str, host: Host) -> Iterator[Key]:
    """Each unit's source and projection; an orthogonal one is stored as torch parametrises it."""
    for layer in config["layers"]:
        for unit in (0,) if config["tied"] else (0, 1):
            native = f"{layer}/layer_out/units.{unit}"
            stored = f"{host.family.layer_path(layer)}.reft_layer.refts.{name}.units.{unit}"
            yield from pair(f"{native}.source", f"{stored}.learned_source")
            if config["orthogonal"]:
                inside = f"{stored}.projection.parametrizations.weight"
                yield Key(f"{inside}.original", (f"{native}.original",))
                yield Key(f"{inside}.0.base", (f"{native}.base",))
            else:
                yield Key(f"{stored}.projection.weight", (f"{native}.projection",))


def write(config: Mapping[str, Any], host: Host) -> dict[str, Any]:
    """A configuration that reads as the same part."""
    return {
        "architecture": "reft",
        "layers": "all" if list(config["layers"]) == list(range(host.layers)) else list(config["layers"]),
        "r": config["rank"],
        "prefix_positions": config["prefix_positions"],
        "suffix_positions": config["suffix_positions"],
        "tied_weights": config["tied"],
        "orthogonality": config["orthogonal"],
        "subtract_projection": config["subtract_projection"],
        "non_linearity": config["non_linearity"],
        "output_reft": True,
        "dropout": 0.0,
        "dtype": None,
    }


WORDING = Wording(
    "ReFT",
    ("layers", "prefix_positions", "suffix_positions", "r", "orthogonality"),
    {**REFT_CONFIG, "output_reft": True},
    ("dropout", "dtype", "init_weights_seed"),
    read,
)
LAYOUT = Layout(keys, write)
