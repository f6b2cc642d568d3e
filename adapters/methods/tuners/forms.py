"""The forms that a change of a frozen map can take: a product of low rank, or a full delta, whichever is smaller."""

from torch import Tensor
from torch.nn import functional

from adapters.methods.biases import ADDED, BIASES
from adapters.methods.delta import DELTA_NAME, SHIFT
from adapters.methods.lora import LORA, rank_class
from adapters.weights import Folded


def product(down: Tensor, up: Tensor, variant: str | None = None, bias: Tensor | None = None) -> Folded:
    """The change up @ down, for A [r, in] and B [out, r]: as LoRA where that takes fewer numbers than [out, in].

    `bias` [out] is added to what the map gives.
    """
    (rank, wide), out = down.shape, up.shape[0]
    padded = rank_class(rank)
    if padded * (wide + out) >= wide * out:
        return full(up @ down, variant, bias)
    pad = padded - rank
    held = {"down": functional.pad(down, (0, 0, 0, pad)), "up": functional.pad(up, (0, pad))}
    return Folded(LORA.name, variant, held | _named("bias", bias))


def full(delta: Tensor, variant: str | None = None, bias: Tensor | None = None) -> Folded:
    """The change D [out, in] as it is; `bias` as in `product`."""
    return Folded(DELTA_NAME, variant, {"delta": delta} | _named(SHIFT, bias))


def shift(bias: Tensor) -> Folded:
    """What is added [out] to what the map gives, whatever it reads."""
    return Folded(BIASES.name, ADDED, {SHIFT: bias})


def _named(name: str, bias: Tensor | None) -> dict[str, Tensor]:
    return {} if bias is None else {name: bias}
