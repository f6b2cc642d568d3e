"""GraLoRA: Jung et al. 2025 (arXiv:2505.20355): a small LoRA of rank r / k for each of k x k blocks of the map.

    delta[block j, block n] = alpha / (r + h) * B[j, n] A[n, j]        A [k, in / k, r], B [k, r, out / k]

The rank of A's block n is shared out among the outputs' blocks j, that of B's block j among the inputs' blocks n. A
hybrid has a plain LoRA of rank h beside it, at the same scaling. All of it is one product of rank k r + h.
"""

import torch

from adapters.methods.base import BaseMap, Shapes
from adapters.methods.tuners.forms import product
from adapters.methods.tuners.tuner import COUNT, NUMBER, Held, Said, Tuner, Widths, divided, whole
from adapters.weights import Folded


def _shapes(said: Said, width: Widths) -> Shapes:
    (wide, out), blocks, rank, general = width, said["blocks"], said["rank"], said["general_rank"]
    divided("the number of blocks", rank, blocks)
    found: Shapes = {
        "A": (blocks, divided("the number of blocks", wide, blocks), rank),
        "B": (blocks, rank, divided("the number of blocks", out, blocks)),
    }
    return found | ({"A_general": (general, wide), "B_general": (out, general)} if general else {})


def _change(said: Said, held: Held, frozen: BaseMap) -> Folded:
    blocks, rank = said["blocks"], said["rank"]
    (out, wide), share = frozen.weight.shape, said["rank"] // said["blocks"]
    eye = torch.eye(blocks).to(held["A"])
    # n: block of inputs, j: of outputs, s: share of the rank, m: where the block lies, i and o: channels in a block
    down = torch.einsum("nijs,nm->jnsmi", held["A"].view(blocks, wide // blocks, blocks, share), eye)
    up = torch.einsum("jnso,jm->mojns", held["B"].view(blocks, blocks, share, out // blocks), eye)
    down, up = down.reshape(blocks * rank, wide), up.reshape(out, blocks * rank)
    if said["general_rank"]:
        down, up = torch.cat([down, held["A_general"]]), torch.cat([up, held["B_general"]], dim=1)
    return product(down, up * (said["alpha"] / (rank + said["general_rank"])))


GRALORA = Tuner("gralora", {"blocks": COUNT, "rank": COUNT, "general_rank": whole, "alpha": NUMBER}, _shapes, _change)
