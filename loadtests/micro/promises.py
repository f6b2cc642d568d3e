"""What is promised of a batch of 32 rows with 32 different adapters: its throughput over that of the bare backbone."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from adapters.architectures.geometry import Geometry
from adapters.methods.presets import SEQ_BN
from loadtests.synthetic import CONFIGS

DECODERS = ("gpt2", "llama")  # shapes of `loadtests.micro.mixed`


def _double(geometry: Geometry) -> dict[str, Any]:
    """A bottleneck behind both sublayers of every layer, as Houlsby et al. place them."""
    names = [f"{layer}/{site}" for layer in range(geometry.layers) for site in ("attn_junction", "ffn_junction")]
    form = {**SEQ_BN, "original_ln_before": False, "residual_before_ln": False, "non_linearity": "swish"}
    return {**form, "sites": {name: {"width": geometry.hidden_size // 16} for name in names}}


def _reft(geometry: Geometry) -> dict[str, Any]:
    """ReFT without orthogonality (NoReFT) of rank 1, at three tokens of either end."""
    place = {"layers": list(range(geometry.layers)), "rank": 1, "prefix_positions": 3, "suffix_positions": 3}
    return {**place, "tied": False, "orthogonal": False, "subtract_projection": True, "non_linearity": None}


Configure = Callable[[Geometry], dict[str, Any]]
# What can be measured -> its method, and its configuration on a backbone.
METHODS: Mapping[str, tuple[str, Configure]] = {
    **{name: (name, configure) for name, configure in CONFIGS.items()},
    "double_bottleneck": ("bottleneck", _double),
    "reft": ("reft", _reft),
}
SIX = (*CONFIGS, "reft")
DECODING = tuple(name for name in SIX if name != "prompt_tuning")  # what AdapterHub, and so we, have for decoders


@dataclass(frozen=True)
class Promise:
    """A ratio of throughput that is promised for 32 different adapters of some methods over the bare backbone."""

    shape: str
    dtype: str
    methods: tuple[str, ...]
    least: float
    torch_only: bool = False


def _promises() -> tuple[Promise, ...]:
    one, double, six = (("bottleneck",), ("lora",)), ("double_bottleneck",), SIX
    found: list[Promise] = []
    bounds = (("minilm", 0.85, 0.80), ("bert-base", 0.90, 0.87), ("gpt2", 0.90, 0.87), ("llama", 0.90, 0.87))
    for shape, single, both in bounds:
        found += [Promise(shape, "bfloat16", methods, single) for methods in one]
        found += [
            Promise(shape, "bfloat16", double, both),
            Promise(shape, "bfloat16", DECODING if shape in DECODERS else six, 0.80),
        ]
        found += [Promise(shape, "float32", methods, 0.90) for methods in one]
        found += [Promise(shape, "float32", double, both if shape in DECODERS else 0.90)]
        found += [Promise(shape, "bfloat16", ("bottleneck",), 0.70, torch_only=True)]
    return tuple(found)


PROMISES = _promises()
