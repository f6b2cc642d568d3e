"""Which of a case's stored outputs belong to a row, in the shape in which the library answers."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from adapters.backbone import Want
from tests.conformance.arrangement import Arranged

Output = Literal[
    "logits", "hidden_state", "encoder_hidden_state", "start_logits", "end_logits", "arc_preds", "rel_preds"
]
# What a row is asked for to get each of the format's outputs.
WANTS: Mapping[Output, Want] = {
    "logits": "logits",
    "hidden_state": "hidden_state",
    "encoder_hidden_state": "encoder_hidden_state",
    "start_logits": "logits",
    "end_logits": "logits",
    "arc_preds": "logits",
    "rel_preds": "logits",
}


@dataclass(frozen=True)
class Expected:
    """One reference of one row.

    `values`: [labels]; or [positions, width], padding and inserted tokens included; or, for trees, [words, words + 1,
    scores] of the real words. `rounding`: how far the source library's float32 is from its own float64 here, where
    the case tells it.
    """

    name: str
    output: Output
    values: Tensor
    rounding: float = 0.0

    @property
    def want(self) -> Want:
        """What a row is asked for."""
        return WANTS[self.output]

    def taken(self, answer: Tensor) -> Tensor:
        """The share of a row's answer that this is the reference of."""
        match self.output:
            case "start_logits" | "arc_preds":
                return answer[..., :1]
            case "end_logits" | "rel_preds":
                return answer[..., 1:]
        return answer


def comparable(name: str) -> bool:
    """Whether a stored output is one that a row of the library has."""
    return name.rsplit(".", 1)[-1] in WANTS


def references(
    tensors: Mapping[str, Tensor], row: Arranged, words: int, *, of_rows: bool, rounding: Mapping[str, float]
) -> Iterator[Expected]:
    """References of one row, under whichever of the format's names they are stored.

    `words`: of the input, for trees. `of_rows`: whether the case gives every row its own composition. `rounding`: of
    the source library, by stored name.
    """
    for output, want in WANTS.items():
        if want == "logits" and row.bare and of_rows:
            continue  # logits of a head that is in no artefact: the class's own, freshly initialised
        found: list[tuple[str, Tensor]] = []
        if output in tensors:
            found.append((output, _flat(tensors[output], output, tensors)[row.place]))
        if (name := f"row.{row.source}.{output}") in tensors:
            found.append((name, tensors[name][0]))
        if row.part and (name := f"head_output.{row.part[0]}.{output}") in tensors:
            found.append((name, tensors[name][row.part[1]]))
        for name, values in found:
            yield Expected(name, output, _shaped(values, output, words), rounding.get(name, 0.0))


def _flat(values: Tensor, output: Output, tensors: Mapping[str, Tensor]) -> Tensor:
    """A row per input: the scores of a question's choices are stored side by side, [questions, choices]."""
    choices = tensors["input.input_ids"].dim() == 3
    return values.reshape(-1, 1) if choices and output == "logits" else values


def _shaped(values: Tensor, output: Output, words: int) -> Tensor:
    match output:
        case "start_logits" | "end_logits":
            return values.unsqueeze(-1)
        case "arc_preds":
            return values[:words, : words + 1].unsqueeze(-1)
        case "rel_preds":
            return values[:words, : words + 1]
    return values
