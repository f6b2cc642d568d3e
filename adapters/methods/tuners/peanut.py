"""PEANuT (arXiv:2410.01870): a small network reads the frozen map, and gives the change of it.

    delta^T = scaling * B(net(W^T))        A [r, out], B [out, r], encoders and decoders [r, r]

The network begins with act(A .); each encoder is act(E .), each decoder act(D .) plus what its encoder had read. It is
the same for all inputs, so that all of it is computed at load: the change is the product of B and r rows.
"""

from collections.abc import Mapping
from typing import Any

from torch import Tensor
from transformers.activations import ACT2FN

from adapters.methods.base import BaseMap, Shapes
from adapters.methods.settings import Settings, activation
from adapters.methods.tuners.forms import product
from adapters.methods.tuners.tuner import COUNT, NUMBER, Held, Said, Tuner, Widths, whole
from adapters.weights import Folded


def _activation(settings: Settings, where: str, held: Mapping[str, Any], key: str) -> str:
    value = held.get(key)
    if not isinstance(value, str) or value not in ACT2FN:
        settings.wrong(f"{where}.{key} {value!r} is no activation")
        return "relu"
    return value


def _shapes(said: Said, width: Widths) -> Shapes:
    out, rank = width[1], said["rank"]
    hidden = {f"{kind}.{i}": (rank, rank) for kind in ("encoder", "decoder") for i in range(said["depth"])}
    return {"A": (rank, out), "B": (out, rank), **hidden}


def _change(said: Said, held: Held, frozen: BaseMap) -> Folded:
    act = activation(said["activation"])
    state: Tensor = act(frozen.weight.T @ held["A"].T)  # [in, r]
    read: list[Tensor] = []
    for i in range(said["depth"]):
        read.append(state)
        state = act(state @ held[f"encoder.{i}"].T)
    for i in range(said["depth"]):
        state = act(state @ held[f"decoder.{i}"].T) + read.pop()
    return product(state.T, held["B"] * said["scaling"])


PEANUT = Tuner(
    "peanut", {"rank": COUNT, "depth": whole, "activation": _activation, "scaling": NUMBER}, _shapes, _change
)
