"""Language models, masked, causal and of a decoder: a score for every word of a vocabulary, at every token that is asked for.

h_i = LN(act(W_i h_{i-1} + b_i))    i = 0 .. layers-2;  the first map goes from the hidden to the embeddings' width
y = W inv(h) + b                    inv: the inverse of the row's invertible adapter (arXiv:2005.00052), if it has one and
                                    the head is one that undoes it
y_t = R_t h                         for words t whose vectors R_t the row's adapter trains, under a head that is tied to the
                                    backbone's table of words
"""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor
from transformers.activations import ACT2FN

from adapters.heads.base import MAX_LAYERS, HeadContext, Places, Shapes
from adapters.heads.linear import shared_reasons
from adapters.kernels.arena import Stacked
from adapters.kernels.ragged import enter
from adapters.kernels.runs import Runs
from adapters.manifest import HeadSpec


@dataclass(frozen=True)
class LanguageModel:
    """Scores [tokens, vocabulary] of a row: of the word at a token's place, or (causal) of the one behind it.

    Tensors: `head/<i>/weight` and `head/<i>/bias` of the hidden maps, with `head/<i>/norm.weight` and
    `head/<i>/norm.bias` unless `norm_eps` is None; last `head/<layers-1>/weight` [vocabulary, width] and, if `bias`,
    its bias. With one layer the vocabulary is read from the hidden states as they are.
    """

    type: str
    problem: str
    places: Places = "tokens"

    def shapes(self, spec: HeadSpec, hidden: int) -> Shapes:
        """Full names and shapes of the stored tensors."""
        if spec.vocabulary is None or spec.width is None:
            return {}
        found: Shapes = {}
        wide = hidden
        for i in range(min(spec.layers, MAX_LAYERS) - 1):
            found[f"head/{i}/weight"] = (spec.width, wide)
            found[f"head/{i}/bias"] = (spec.width,)
            if spec.norm_eps is not None:
                found[f"head/{i}/norm.weight"] = (spec.width,)
                found[f"head/{i}/norm.bias"] = (spec.width,)
            wide = spec.width
        found[f"head/{spec.layers - 1}/weight"] = (spec.vocabulary, wide)
        if spec.bias:
            found[f"head/{spec.layers - 1}/bias"] = (spec.vocabulary,)
        return found

    def reasons(self, spec: HeadSpec, hidden: int, *, has_pooler: bool) -> list[str]:
        """Everything that keeps the head from running on a backbone."""
        reasons = shared_reasons(spec, self.places, (self.problem,), has_pooler=has_pooler)
        for member, value in (("vocabulary", spec.vocabulary), ("width", spec.width)):
            if value is None:
                reasons.append(f"a {self.type} head needs manifest.head.{member}")
        if spec.layers == 1 and spec.width not in (None, hidden):
            what = f"a {self.type} head of one layer reads the hidden states as they are"
            reasons.append(f"manifest.head.width must be {hidden}, not {spec.width}: {what}")
        return reasons

    def apply(
        self, x: Tensor, runs: Runs, spec: HeadSpec, params: Mapping[str, Stacked], context: HeadContext
    ) -> list[Tensor]:
        """[tokens of the row, vocabulary] per row."""
        last = spec.layers - 1
        hidden = enter(x, runs, tuple(_widths(params[f"{i}.weight"]) for i in range(last)))
        for i in range(last):
            hidden = hidden.linear(params[f"{i}.weight"], params[f"{i}.bias"])
            if spec.activation is not None:
                hidden = hidden.map(ACT2FN[spec.activation])
            if spec.norm_eps is not None:
                hidden = hidden.layer_norm(params[f"{i}.norm.weight"], params[f"{i}.norm.bias"], spec.norm_eps)
        states = hidden.leave()
        if spec.inverse and context.undo is not None:
            states = context.undo(states)
        decoder = params[f"{last}.weight"]
        scores = enter(states, runs, (_widths(decoder),)).linear(decoder, params.get(f"{last}.bias")).leave()
        answers = [scores[start:end] for start, end in context.rows]
        for i, words in enumerate(context.trained):
            if words is not None:
                start, end = context.rows[i]
                answers[i] = answers[i].index_copy(1, words.ids, (states[start:end] @ words.vectors.T).to(scores.dtype))
        return answers


def _widths(weight: Stacked) -> tuple[int, int]:
    return weight.shape[1], weight.shape[0]


MASKED_LM = LanguageModel("masked_lm", "vocabulary")
CAUSAL_LM = LanguageModel("causal_lm", "next_token")
SEQ2SEQ_LM = LanguageModel("seq2seq_lm", "vocabulary")
