"""MiSS: Kang and Yin 2025 (arXiv:2409.15371): one small matrix for all shards of the input, earlier known as Bone.

plain: delta[:, i] = B[i mod r]           B [r, out]: the shards of x, r channels each, are added up first
mini:  as plain, and B [r, m] is repeated over the outputs
bat:   delta = W_ij B_i + B_i, block by block of [r, r]        B [out / r, r, r]
"""

import torch

from adapters.methods.base import BaseMap, Shapes
from adapters.methods.lora import TURNED
from adapters.methods.tuners.forms import full, product
from adapters.methods.tuners.tuner import COUNT, Held, Said, Tuner, Widths, divided, one_of, whole
from adapters.weights import Folded

KINDS = ("plain", "bat", "mini")


def _shapes(said: Said, width: Widths) -> Shapes:
    (wide, out), rank, kind = width, said["rank"], said["kind"]
    if kind == "bat":
        divided("the rank", wide, rank)
        return {"block": (divided("the rank", out, rank), rank, rank)}
    if kind == "mini":
        divided("the mini rank", out, said["mini_rank"])
        return {"block": (rank, said["mini_rank"])}
    return {"block": (rank, out)}


def _change(said: Said, held: Held, frozen: BaseMap) -> Folded:
    (out, wide), rank, block = frozen.weight.shape, said["rank"], held["block"]
    if said["kind"] == "bat":
        squares = frozen.weight.to(block).view(out // rank, rank, wide // rank, rank).transpose(1, 2)
        return full((squares @ block[:, None] + block[:, None]).transpose(1, 2).reshape(out, wide), TURNED)
    if said["kind"] == "mini":
        block = block.repeat(1, out // said["mini_rank"])
    shards = torch.arange(wide) % rank == torch.arange(rank)[:, None]
    return product(shards.to(block), block.T)


MISS = Tuner("miss", {"rank": COUNT, "kind": one_of(*KINDS), "mini_rank": whole}, _shapes, _change)
