"""Bottlenecks: all that AdapterHub calls `BnConfig`, and whose down and up maps are plain ones."""

from collections.abc import Iterator, Mapping
from typing import Any

from adapters.architectures.record import Junction
from adapters.architectures.sites import Address
from adapters.errors import Misfit
from adapters.formats.adapterhub.host import Host, grid
from adapters.formats.adapterhub.keys import Key, pair
from adapters.formats.adapterhub.wording import Layout, Wording
from adapters.manifest import PartSpec
from adapters.methods import parts
from adapters.methods.bottleneck import MEMBERS
from adapters.methods.presets import BN_CONFIG
from adapters.methods.settings import Settings

_PHM_TRAINING = ("phm_c_init", "phm_init_range", "learn_phm", "hypercomplex_nonlinearity")


def read(settings: Settings, host: Host) -> Iterator[PartSpec]:
    """The parts; AdapterHub itself can not do all of it where it hangs adapters behind a module of another's code."""
    for part in parts.bottleneck(settings, host):
        junctions = [_junction(Address.parse(text), host) for text in part.config.get("sites", ())]
        if not part.config.get("original_ln_after", True) and not all(
            junction.adds or junction.removable for junction in junctions
        ):
            settings.wrong("original_ln_after=false can not run in AdapterHub for this family either")
        yield part


def _junction(address: Address, host: Host) -> Junction:
    return host.family.stack(address.layer).junctions[address.site]


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
        held = host.family.stack(address.layer).hub_bottlenecks[address.site]
        module = f"{host.family.layer_path(address.layer)}.{held}"
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
        reduction = factor(host.hidden_size, held["width"])
        if factors.setdefault(text.split("/")[0], reduction) != reduction:
            raise Misfit(["AdapterHub has one width per layer"])
    same = len(set(factors.values())) == 1
    return {
        **{key: config[key] for key in MEMBERS if key != "sites"},
        **{m: site in by_site for m, site in parts.JUNCTIONS.items() if host.crossing or m != "cross_adapter"},
        "reduction_factor": next(iter(factors.values())) if same else factors,
        "leave_out": left_out,
        "phm_layer": False,
        "inv_adapter": None,
        "inv_adapter_reduction_factor": None,
    }


def factor(size: int, narrow: int) -> int | float:
    """A reduction factor that gives this width."""
    found = size // narrow if size % narrow == 0 else size / (narrow + 0.5)
    assert max(1, int(size // found)) == narrow
    return found


WORDING = Wording(
    "bottleneck",
    ("mh_adapter", "output_adapter", "reduction_factor", "non_linearity"),
    BN_CONFIG,
    ("dropout", "init_weights", "init_weights_seed", "stochastic_depth", *_PHM_TRAINING),
    read,
)
LAYOUT = Layout(keys, write)
