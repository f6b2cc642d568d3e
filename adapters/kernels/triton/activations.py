"""The activations of bottlenecks, in float32, by the names that configurations give them."""

from collections.abc import Mapping

import triton
import triton.language as tl

# Names as in `adapters.methods.settings.activation`; several stand for one function.
ACTIVATIONS: Mapping[str, str] = {
    "linear": "linear",
    "relu": "relu",
    "gelu": "gelu",
    "gelu_python": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "silu": "silu",
    "swish": "silu",
    "tanh": "tanh",
    "sigmoid": "sigmoid",
    "leakyrelu": "leaky_relu",
    "leaky_relu": "leaky_relu",
}


@triton.jit
def activated(x: tl.tensor, KIND: tl.constexpr) -> tl.tensor:
    """An activation of x, by a value of `ACTIVATIONS`."""
    y = x
    if KIND == "relu":
        y = tl.where(x < 0.0, 0.0, x)  # not maximum(x, 0), which would hide a NaN
    elif KIND == "gelu":
        y = 0.5 * x * (1.0 + tl.erf(x * 0.7071067811865476))
    elif KIND == "gelu_tanh":
        y = 0.5 * x * (1.0 + tanh(0.7978845608028654 * (x + 0.044715 * x * x * x)))
    elif KIND == "silu":
        y = x * sigmoid(x)
    elif KIND == "tanh":
        y = tanh(x)
    elif KIND == "sigmoid":
        y = sigmoid(x)
    elif KIND == "leaky_relu":
        y = tl.where(x < 0.0, 0.01 * x, x)
    else:
        tl.static_assert(KIND == "linear")
    return y


@triton.jit
def sigmoid(x: tl.tensor) -> tl.tensor:
    """1 / (1 + exp(-x)), without an exponential that overflows."""
    small = tl.exp(-tl.abs(x))
    return tl.where(x < 0.0, small, 1.0) / (1.0 + small)


@triton.jit
def tanh(x: tl.tensor) -> tl.tensor:
    """The hyperbolic tangent: by exponentials, and by its series where their difference would cancel."""
    size = tl.abs(x)
    small = tl.exp(-2.0 * size)
    far = (1.0 - small) / (1.0 + small)
    square = x * x
    near = size * (1.0 + square * (-1.0 / 3.0 + square * (2.0 / 15.0 - square * (17.0 / 315.0))))
    there = tl.where(size < 0.1, near, far)
    return tl.where(x < 0.0, -there, there)
