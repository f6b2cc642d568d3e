"""Bottlenecks: all that AdapterHub calls `BnConfig`, and whose down and up maps are plain ones."""

from collections.abc import Iterator, Mapping
from typing import Any

from adapters.architectures.sites import Address
from adapters.errors import Misfit
from adapters.formats.adapterhub.host import Host, grid, layers_of
from adapters.formats.adapterhub.keys import Key, pair
from adapters.formats.adapterhub.wording import Layout
from adapters.manifest import PartSpec

REQUIRED = ("mh_adapter", "output_adapter", "reduction_factor", "non_linearity")
# Members that the part keeps, with the defaults of BnConfig (adapters 1.3.0) for older configurations.
SETTINGS: Mapping[str, Any] = {
    "is_parallel": False,
    "ln_before": False,
    "ln_after": False,
    "residual_before_ln": True,
    "adapter_residual_before_ln": False,
    "original_ln_before": False,
    "original_ln_after": True,
    "scaling": 1.0,
    "use_gating": False,
}
TRAINING = ("dropout", "init_weights", "init_weights_seed", "stochastic_depth")
_SITES = {"mh_adapter": "attn_junction", "output_adapter": "ffn_junction"}


def read(config: Mapping[str, Any], host: Host) -> Iterator[PartSpec]:
    """The part, if the configuration adapts a site at all."""
    members = settings(config, host)
    if members["sites"]:
        yield PartSpec("bottleneck", members)


def settings(config: Mapping[str, Any], host: Host) -> dict[str, Any]:
    """Sites with their widths, and every member that changes what is computed."""
    sites: dict[str, dict[str, int]] = {}
    for layer in layers_of(config, host):
        held = {"width": width(host.hidden, _reduction(config["reduction_factor"], layer))}
        sites |= {f"{layer}/{site}": held for member, site in _SITES.items() if config[member]}
    members = {key: config.get(key, default) for key, default in SETTINGS.items()}
    refused = list(_hooked(members, {Address.parse(text).site for text in sites}, host))
    if refused:
        raise Misfit(refused)
    return {"sites": sites, "non_linearity": str(config["non_linearity"]).lower(), **members}


def width(hidden: int, reduction_factor: float) -> int:
    """Width of a bottleneck: at least 1 (the library's `int(hidden // reduction_factor)`)."""
    return max(1, int(hidden // reduction_factor))


def keys(config: Mapping[str, Any], name: str, host: Host) -> Iterator[Key]:
    """Down, up, and what else a module has."""
    for text, stem, down in modules(config, name, host):
        yield from pair(f"{text}/down", down)
        yield from pair(f"{text}/up", f"{stem}.adapter_up")
        yield from extras(config, text, stem)


def modules(config: Mapping[str, Any], name: str, host: Host) -> Iterator[tuple[str, str, str]]:
    """(site, module, its down map) for every site; a norm of its own goes before the down map, in one `Sequential`."""
    for text in config["sites"]:
        address = Address.parse(text)
        assert address.layer is not None
        module = f"{host.family.layer_path(address.layer)}.{host.family.hub_bottlenecks[address.site]}"
        stem = f"{module}.adapters.{name}"
        yield text, stem, f"{stem}.adapter_down.{1 if config['ln_before'] else 0}"


def extras(config: Mapping[str, Any], text: str, stem: str) -> Iterator[Key]:
    """Norms, gate and learned scaling. The norm before is stored twice: on its own, and inside of `adapter_down`."""
    if config["ln_before"]:
        for kind in ("weight", "bias"):
            copies = (f"{stem}.adapter_down.0.{kind}",)
            yield Key(f"{stem}.adapter_norm_before.{kind}", (f"{text}/norm_before.{kind}",), copies)
    if config["ln_after"]:
        yield from pair(f"{text}/norm_after", f"{stem}.adapter_norm_after")
    if config["use_gating"]:
        yield from pair(f"{text}/gate", f"{stem}.gate")
    if isinstance(config["scaling"], str):
        yield Key(f"{stem}.scaling", (f"{text}/scaling",))


def write(config: Mapping[str, Any], host: Host) -> dict[str, Any]:
    """A configuration that reads as the same part."""
    by_site, left_out = grid(config["sites"], host)
    factors: dict[str, Any] = {}
    for text, held in config["sites"].items():
        reduction = factor(host.hidden, held["width"])
        if factors.setdefault(text.split("/")[0], reduction) != reduction:
            raise Misfit(["AdapterHub has one width per layer"])
    same = len(set(factors.values())) == 1
    return {
        **{key: config[key] for key in ("non_linearity", *SETTINGS)},
        **{member: site in by_site for member, site in _SITES.items()},
        "reduction_factor": next(iter(factors.values())) if same else factors,
        "leave_out": left_out,
        "phm_layer": False,
        "inv_adapter": None,
        "inv_adapter_reduction_factor": None,
    }


def factor(size: int, narrow: int) -> int | float:
    """A reduction factor that gives this width."""
    found = size // narrow if size % narrow == 0 else size / (narrow + 0.5)
    assert width(size, found) == narrow
    return found


def _hooked(members: Mapping[str, Any], sites: set[str], host: Host) -> Iterator[str]:
    """What AdapterHub can not do itself where it hangs adapters behind a module that it has no code for."""
    junctions = [host.family.junctions[site] for site in sorted(sites)]
    if not members["original_ln_after"] and any(not junction.adds for junction in junctions):
        yield "original_ln_after=false can not run in AdapterHub for this family either"
    lost = members["original_ln_before"] and members["residual_before_ln"] == "post_add"
    if lost and not members["is_parallel"] and any(junction.norm is None for junction in junctions):
        yield "residual_before_ln='post_add' needs a norm behind the sublayer, which this family does not have"


def _reduction(value: Any, layer: int) -> float:
    """A number, or a map from layer (as text) to number with a `default`."""
    if isinstance(value, Mapping):
        value = value[str(layer)] if str(layer) in value else value.get("default")
    if not isinstance(value, int | float) or isinstance(value, bool) or value <= 0:
        raise Misfit([f"the bottleneck configuration is malformed: layer {layer} has no positive reduction factor"])
    return float(value)


LAYOUT = Layout(keys, write)
