"""VB-LoRA: Li et al. 2024 (arXiv:2405.15179): LoRA out of a bank of vectors that all matrices share.

    A = sub-vectors of l channels, each the mean of its k best vectors of the bank [h, l], weighted by a softmax

logits_A [r, in / l, h], logits_B [out / l, r, h]; or, stored for serving alone, the k best: indices, and weights less
the last one, which makes them one.
"""

import torch
from torch import Tensor

from adapters.errors import Misfit
from adapters.methods.base import BaseMap, Shapes
from adapters.methods.tuners.forms import product
from adapters.methods.tuners.tuner import COUNT, FLAG, Held, Said, Tuner, Widths, divided
from adapters.weights import Folded


def _shapes(said: Said, width: Widths) -> Shapes:
    (wide, out), rank, best = width, said["rank"], said["best"]
    if best > said["vectors"]:
        raise Misfit([f"the best {best} are more than the bank's {said['vectors']} vectors"])
    sizes = {
        "A": (rank, divided("the length of the vectors", wide, said["length"])),
        "B": (divided("the length of the vectors", out, said["length"]), rank),
    }
    if not said["best_only"]:
        return {f"logits_{name}": (*size, said["vectors"]) for name, size in sizes.items()}
    found: Shapes = {f"indices_{name}": (*size, best) for name, size in sizes.items()}
    return found | ({f"weights_{name}": (*size, best - 1) for name, size in sizes.items()} if best > 1 else {})


def _shared(said: Said, width: Widths) -> Shapes:
    return {"bank": (said["vectors"], said["length"])}


def _change(said: Said, held: Held, frozen: BaseMap) -> Folded:
    out, wide = frozen.weight.shape
    down = _mixed(said, held, "A").reshape(said["rank"], wide)
    up = _mixed(said, held, "B").transpose(1, 2).reshape(out, said["rank"])
    return product(down, up)


def _mixed(said: Said, held: Held, name: str) -> Tensor:
    """The sub-vectors [.., .., l] of one matrix."""
    if said["best_only"]:
        indices = held[f"indices_{name}"].long()
        weights = held.get(f"weights_{name}", held["bank"].new_zeros(*indices.shape[:-1], 0))
        if indices.min() < 0 or indices.max() >= said["vectors"]:
            raise Misfit([f"vblora: an index of indices_{name} lies outside of the bank"])
        weights = torch.cat([weights, 1 - weights.sum(-1, keepdim=True)], dim=-1)
    else:
        best, indices = held[f"logits_{name}"].topk(said["best"], dim=-1)
        weights = torch.softmax(best, dim=-1)
    return (weights[..., None] * held["bank"][indices]).sum(-2)


VBLORA = Tuner(
    "vblora",
    {"rank": COUNT, "vectors": COUNT, "length": COUNT, "best": COUNT, "best_only": FLAG},
    _shapes,
    _change,
    _shared,
)
