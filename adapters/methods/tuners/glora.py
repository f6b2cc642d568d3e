"""GLoRA: Chavan et al. 2023 (arXiv:2306.07967): a map and its bias are both scaled and shifted.

    W' = W + W * A + B        b' = b + b * D + E + W C

A, B: `lora` Xd Xu [out, r] [r, in], `vector` [out, 1] (one number for all inputs), `constant` [1]. C: `lora` [in, r]
[r, 1], `vector` [in, 1]. D, E: `vector` [out], `constant` [1]. `none`: PEFT stores the zeros.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from adapters.errors import Misfit
from adapters.methods.base import BaseMap, Shapes
from adapters.methods.tuners.forms import full, shift
from adapters.methods.tuners.tuner import COUNT, Held, Said, Tuner, Widths, one_of
from adapters.weights import Folded

WEIGHTS = ("none", "lora", "vector", "constant")
COUPLINGS = ("none", "lora", "vector")
BIASES = ("none", "vector", "constant")
# What a letter stands for -> the setting that says how it is made.
KINDS: Mapping[str, str] = {"A": "weights", "B": "weights", "C": "coupling", "D": "biases", "E": "biases"}


def _shapes(said: Said, width: Widths) -> Shapes:
    wide, out = width
    found: Shapes = {}
    sizes: dict[str, tuple[int, ...]] = {"A": (out, wide), "B": (out, wide), "C": (wide, 1), "D": (out,), "E": (out,)}
    for letter, size in sizes.items():
        match said[KINDS[letter]]:
            case "lora":
                found |= {f"{letter}.Xd": (size[0], said["rank"]), f"{letter}.Xu": (said["rank"], size[1])}
            case "vector":
                found[f"{letter}.X"] = size if letter in "DE" else (size[0], 1)
            case "constant":
                found[f"{letter}.X"] = (1,)
            case _:
                found[f"{letter}.zeros"] = size
    return found


def _change(said: Said, held: Held, frozen: BaseMap) -> Folded:
    wrong = [name for name, tensor in held.items() if name.endswith(".zeros") and tensor.any()]
    if wrong:
        raise Misfit([f"glora: {wrong[0]} must be zero where its configuration is none"])
    value = {letter: _value(held, letter) for letter in KINDS}
    weight, bias = frozen.weight, None
    if said["coupling"] != "none" or said["biases"] != "none":
        bias = frozen.bias * value["D"] + value["E"] + (weight @ value["C"]).squeeze(-1)
    if said["weights"] == "none":
        return shift(torch.zeros_like(frozen.bias) if bias is None else bias)
    return full(weight * value["A"] + value["B"], bias=bias)


def _value(held: Held, letter: str) -> Tensor:
    if f"{letter}.Xd" in held:
        return held[f"{letter}.Xd"] @ held[f"{letter}.Xu"]
    value = held.get(f"{letter}.X")
    return held[f"{letter}.zeros"] if value is None else value


GLORA = Tuner(
    "glora",
    {"rank": COUNT, "weights": one_of(*WEIGHTS), "coupling": one_of(*COUPLINGS), "biases": one_of(*BIASES)},
    _shapes,
    _change,
)
