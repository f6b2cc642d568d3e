"""Prediction heads that travel with an adapter: pooled or per-token states to logits, many heads at once.

logits = W_n act(... act(W_0 x + b_0)) + b_n        x: first token, pooler output, or every token
"""

from collections.abc import Mapping

from torch import Tensor
from transformers.activations import ACT2FN

from adapters.kernels.arena import Stacked
from adapters.kernels.ragged import enter
from adapters.kernels.runs import Runs
from adapters.manifest import HeadSpec

MAX_LAYERS = 8


def head_shapes(spec: HeadSpec, hidden: int) -> dict[str, tuple[int, ...]]:
    """Full names and shapes of a head's tensors: hidden maps are square, the last one has one row per label."""
    shapes: dict[str, tuple[int, ...]] = {}
    for i in range(min(spec.layers, MAX_LAYERS)):
        out = len(spec.labels) if i == spec.layers - 1 else hidden
        shapes[f"head/{i}/weight"] = (out, hidden)
        if spec.bias:
            shapes[f"head/{i}/bias"] = (out,)
    return shapes


def head_reasons(spec: HeadSpec, *, has_pooler: bool) -> list[str]:
    """Everything that keeps a head from running on a backbone."""
    reasons = []
    if spec.layers > MAX_LAYERS:
        reasons.append(f"the head has {spec.layers} layers; at most {MAX_LAYERS} are served")
    if spec.activation is not None and spec.activation not in ACT2FN:
        reasons.append(f"head activation {spec.activation!r} is no activation")
    if spec.pooling == "pooler" and not has_pooler:
        reasons.append("the head needs the backbone's pooler, which its checkpoint does not hold")
    if (spec.type == "tagging") != (spec.pooling == "tokens"):
        reasons.append(f"a {spec.type} head can not pool {spec.pooling!r}")
    if (spec.type == "tagging") != (spec.problem_type == "token"):
        reasons.append(f"a {spec.type} head can not have problem type {spec.problem_type!r}")
    if spec.problem_type == "regression" and len(spec.labels) != 1:
        reasons.append("a regression head has exactly one label")
    return reasons


def apply_heads(x: Tensor, runs: Runs, spec: HeadSpec, params: Mapping[str, Stacked]) -> Tensor:
    """Logits [n, labels] of states x [n, hidden] under S heads of one shape."""
    shapes = [params[f"{i}.weight"].shape for i in range(spec.layers)]
    tokens = enter(x, runs, tuple((shape[1], shape[0]) for shape in shapes))
    for i in range(spec.layers):
        tokens = tokens.linear(params[f"{i}.weight"], params.get(f"{i}.bias"))
        if i < spec.layers - 1 and spec.activation is not None:
            tokens = tokens.map(ACT2FN[spec.activation])
    return tokens.leave()
