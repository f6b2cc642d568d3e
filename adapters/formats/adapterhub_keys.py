"""Where AdapterHub stores each tensor of a part: one table, used for reading and for writing.

Keys are relative to the base model; a checkpoint saved from a model with a head has the family's prefix before them.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from adapters.architectures.record import Architecture
from adapters.architectures.sites import Address
from adapters.manifest import PartSpec


@dataclass(frozen=True)
class Key:
    """One tensor: its native name and its key. The library may store the same memory under further names."""

    native: str
    stored: str
    copies: tuple[str, ...] = ()
    column: bool = False  # stored as [n, 1]


@dataclass(frozen=True)
class Places:
    """Where a family holds AdapterHub's modules: bottlenecks by site (relative to the layer), and its prefix."""

    bottleneck: Mapping[str, str]
    prefix: str


_BERT = Places({"attn_junction": "attention.output", "ffn_junction": "output"}, "self_prefix")
PLACES: Mapping[str, Places] = {
    "bert": _BERT,
    "roberta": _BERT,
    "xlm-roberta": _BERT,
    "electra": _BERT,
    "distilbert": Places({"attn_junction": "attention_adapters", "ffn_junction": "output_adapters"}, "self"),
}
# Module names of adapter-transformers 1.x; the present library renames them as it loads.
LEGACY: Mapping[str, str] = {
    "attention_text_task_adapters": "adapters",
    "attention_text_lang_adapters": "adapters",
    "layer_text_task_adapters": "adapters",
    "layer_text_lang_adapters": "adapters",
    "invertible_lang_adapters": "invertible_adapters",
}
_PREFIX_MLP = (
    "wte.weight",
    "control_trans.0.weight",
    "control_trans.0.bias",
    "control_trans.2.weight",
    "control_trans.2.bias",
)


def keys(part: PartSpec, name: str, family: Architecture, layers: int) -> Iterator[Key]:
    """Every tensor of a part of the adapter `name`; `layers` is the backbone's number of layers."""
    config = part.config
    match part.method:
        case "bottleneck":
            yield from _bottleneck(config, name, family)
        case "invertible":
            for parameter in (f"{net}.{i}.{kind}" for net in "FG" for i in (0, 2) for kind in ("weight", "bias")):
                yield Key(f"model/embed_out/{parameter}", f"invertible_adapters.{name}.{parameter}")
        case "lora":
            for site in config["sites"]:
                path = family.linear_path(Address.parse(site))
                yield from (Key(f"{site}/{p}", f"{path}.loras.{name}.{p}") for p in ("lora_A", "lora_B"))
        case "ia3":
            for site in config["sites"]:
                path = family.linear_path(Address.parse(site))
                yield Key(f"{site}/scale", f"{path}.loras.{name}.lora_B", column=True)
        case "prefix_tuning":
            yield from _prefix(config, name, family, layers)
        case "prompt_tuning":
            yield Key("model/embed_out/prompt", f"prompt_tuning.prompt_tunings.{name}.prompt_embedding.weight")
        case other:
            raise AssertionError(f"no table for {other}")


def modern(key: str) -> str:
    """A key of adapter-transformers 1.x under its present name."""
    return ".".join(LEGACY.get(segment, segment) for segment in key.split("."))


def _bottleneck(config: Mapping[str, object], name: str, family: Architecture) -> Iterator[Key]:
    sites = config["sites"]
    assert isinstance(sites, Mapping)
    for text in sites:
        address = Address.parse(text)
        assert address.layer is not None
        module = f"{family.layer_path(address.layer)}.{PLACES[family.model_type].bottleneck[address.site]}"
        stem = f"{module}.adapters.{name}"
        before = bool(config["ln_before"])
        for kind in ("weight", "bias"):
            # With ln_before the norm is the first module of adapter_down as well, under a name of its own.
            yield Key(f"{text}/down.{kind}", f"{stem}.adapter_down.{1 if before else 0}.{kind}")
            yield Key(f"{text}/up.{kind}", f"{stem}.adapter_up.{kind}")
            if before:
                copies = (f"{stem}.adapter_down.0.{kind}",)
                yield Key(f"{text}/norm_before.{kind}", f"{stem}.adapter_norm_before.{kind}", copies)
            if config["ln_after"]:
                yield Key(f"{text}/norm_after.{kind}", f"{stem}.adapter_norm_after.{kind}")
            if config["use_gating"]:
                yield Key(f"{text}/gate.{kind}", f"{stem}.gate.{kind}")
        if isinstance(config["scaling"], str):
            yield Key(f"{text}/scaling", f"{stem}.scaling")


def _prefix(config: Mapping[str, object], name: str, family: Architecture, layers: int) -> Iterator[Key]:
    """One set for the model; every layer's attention holds the same memory through the pool."""
    tail = f"prefix_tunings.{name}.{PLACES[family.model_type].prefix}"
    pools = [f"{family.layer_path(i)}.{family.attention}.prefix_tuning.pool.{tail}" for i in range(layers)]
    for parameter in ("control_trans",) if config["flat"] else _PREFIX_MLP:
        copies = tuple(f"{pool}.{parameter}" for pool in pools)
        yield Key(f"model/attn_kv/{parameter}", f"prefix_tuning.{tail}.{parameter}", copies)
