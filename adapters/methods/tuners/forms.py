"""The forms that a change of a frozen map can take: a product of low rank, or a full delta, whichever is smaller."""

from torch import Tensor
from torch.nn import functional

from adapters.methods.delta import DELTA_NAME
from adapters.methods.lora import LORA, rank_class
from adapters.weights import Folded


def product(down: Tensor, up: Tensor, variant: str | None = None) -> Folded:
    """The change up @ down, for A [r, in] and B [out, r]: as LoRA where that takes fewer numbers than [out, in]."""
    (rank, wide), out = down.shape, up.shape[0]
    padded = rank_class(rank)
    if padded * (wide + out) >= wide * out:
        return full(up @ down, variant)
    pad = padded - rank
    return Folded(
        LORA.name, variant, {"down": functional.pad(down, (0, 0, 0, pad)), "up": functional.pad(up, (0, pad))}
    )


def full(delta: Tensor, variant: str | None = None) -> Folded:
    """The change D [out, in] as it is."""
    return Folded(DELTA_NAME, variant, {"delta": delta})
