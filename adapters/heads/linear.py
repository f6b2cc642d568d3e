"""Linear maps with an activation between them: what most kinds of head are made of.

y = W_n act(... act(W_0 x + b_0)) + b_n        x: first token, pooler output, or every token

Some have a norm behind every activation.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor
from transformers.activations import ACT2FN

from adapters.heads.base import MAX_LAYERS, HeadContext, Places, Shapes
from adapters.kernels.arena import Stacked
from adapters.kernels.ragged import enter
from adapters.kernels.runs import Runs
from adapters.manifest import PER_TOKEN, HeadSpec


@dataclass(frozen=True)
class LinearHead:
    """A head of linear maps; hidden ones are square. Kinds differ in what they read and in what they answer.

    Tensors: `head/<i>/weight` [out, in] and, if `bias`, `head/<i>/bias` [out], i = 0 .. layers-1; unless `norm_eps` is
    None, `head/<i>/norm.weight` and `head/<i>/norm.bias` of a norm behind the activation of every map but the last.
    """

    type: str
    places: Places
    problems: tuple[str, ...]

    def outputs(self, spec: HeadSpec) -> int:
        """Width of the last map."""
        return len(spec.labels)

    def shapes(self, spec: HeadSpec, hidden: int) -> Shapes:
        """Full names and shapes of the stored tensors."""
        found: Shapes = {}
        for i in range(min(spec.layers, MAX_LAYERS)):
            out = self.outputs(spec) if i == spec.layers - 1 else hidden
            found[f"head/{i}/weight"] = (out, hidden)
            if spec.bias:
                found[f"head/{i}/bias"] = (out,)
            if spec.norm_eps is not None and i < spec.layers - 1:
                found |= {f"head/{i}/norm.weight": (hidden,), f"head/{i}/norm.bias": (hidden,)}
        return found

    def reasons(self, spec: HeadSpec, hidden: int, *, has_pooler: bool) -> list[str]:
        """Everything that keeps the head from running on a backbone."""
        return shared_reasons(spec, self.places, self.problems, has_pooler=has_pooler)

    def apply(
        self, x: Tensor, runs: Runs, spec: HeadSpec, params: Mapping[str, Stacked], context: HeadContext
    ) -> list[Tensor]:
        """[outputs] per row, or [tokens of the row, outputs] for heads over tokens."""
        y = linear_maps(x, runs, spec, params)
        pieces = [y[start:end] for start, end in context.rows]
        return pieces if self.places == "tokens" or context.whole else [piece[0] for piece in pieces]


def linear_maps(x: Tensor, runs: Runs, spec: HeadSpec, params: Mapping[str, Stacked]) -> Tensor:
    """All maps of a head: [n, outputs] of states x [n, hidden] under S heads of one shape."""
    shapes = [params[f"{i}.weight"].shape for i in range(spec.layers)]
    tokens = enter(x, runs, tuple((shape[1], shape[0]) for shape in shapes))
    for i in range(spec.layers):
        tokens = tokens.linear(params[f"{i}.weight"], params.get(f"{i}.bias"))
        if i < spec.layers - 1 and spec.activation is not None:
            tokens = tokens.map(ACT2FN[spec.activation])
        if i < spec.layers - 1 and spec.norm_eps is not None:
            tokens = tokens.layer_norm(params[f"{i}.norm.weight"], params[f"{i}.norm.bias"], spec.norm_eps)
    return tokens.leave()


def shared_reasons(spec: HeadSpec, places: Places, problems: tuple[str, ...], *, has_pooler: bool) -> list[str]:
    """What is wrong with a head whatever its kind: depth, activation, pooling and problem."""
    reasons = []
    if spec.layers > MAX_LAYERS:
        reasons.append(f"the head has {spec.layers} layers; at most {MAX_LAYERS} are served")
    if spec.activation is not None and spec.activation not in ACT2FN:
        reasons.append(f"head activation {spec.activation!r} is no activation")
    if spec.pooling == "pooler" and not has_pooler:
        reasons.append("the head needs the backbone's pooler, which its checkpoint does not hold")
    if (spec.pooling in PER_TOKEN) != (places == "tokens"):
        reasons.append(f"a {spec.type} head can not pool {spec.pooling!r}")
    if spec.problem_type not in problems:
        reasons.append(f"a {spec.type} head can not have problem type {spec.problem_type!r}")
    return reasons
