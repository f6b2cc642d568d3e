import pytest
import torch

from adapters.errors import Misfit
from adapters.methods.fold import fitting_of
from adapters.methods.prompt_tuning import AFTER, BEFORE, PROMPT_TUNING, WORD_PROMPT, reference
from adapters.weights import Insertion
from tests.adapters import builders
from tests.adapters.builders import HIDDEN, PARTS
from tests.adapters.methods import operands

ROWS = {"prompt": ((0, 4), (4, 9), (9, 13)), "prompt_after_bos": ((0, 3), (3, 8), (8, 12))}


@pytest.mark.parametrize("case", ROWS)
def test_equals_the_reference_of_every_row(case, monkeypatch):
    monkeypatch.setattr(operands, "ROWS", ROWS[case])
    bounds = (ROWS[case][0], (ROWS[case][1][0], ROWS[case][2][1]))
    monkeypatch.setattr(operands, "BOUNDS", bounds)
    blocks = operands.folded(PARTS[case], AFTER, (1, 2))
    insertion = PROMPT_TUNING.insertion(PARTS[case].config)
    x = torch.randn(bounds[-1][1], HIDDEN)
    out = PROMPT_TUNING.embed_out(x, operands.operand(blocks))
    for i, (start, end) in enumerate(ROWS[case]):
        row = x[start:end]
        own = torch.cat([row[: insertion.at], row[insertion.at + insertion.count :]])
        assert torch.equal(out[start:end], reference(blocks[min(i, 1)], own))


def test_insertions_are_told_from_the_configuration():
    assert PROMPT_TUNING.insertion({"length": 4, "at": "prefix"}) == Insertion(4, 0)
    assert PROMPT_TUNING.insertion({"length": 2, "at": "prefix_after_bos"}) == Insertion(2, 1)


@pytest.mark.parametrize(
    "config", [{"length": 0, "at": "prefix"}, {"length": 3, "at": "end"}, {"length": True, "at": "prefix"}]
)
def test_wrong_settings_are_refused(config):
    with pytest.raises(Misfit):
        PROMPT_TUNING.shapes(config, fitting_of(builders.profile("bert")))


@pytest.mark.parametrize("length", [0, 513, True, "3"])
def test_a_prompt_has_a_bounded_number_of_tokens(length):
    with pytest.raises(Misfit, match="length must be an integer from 1 to 512"):
        PROMPT_TUNING.insertion({"length": length, "at": "prefix"})


def test_a_prompt_of_words_goes_in_before_the_embeddings_and_is_counted():
    part = PARTS["word_prompt"]
    assert list(WORD_PROMPT.fold(part.config, {f"{BEFORE}/prompt": torch.ones(3, HIDDEN)}, None)) == [BEFORE]
    assert WORD_PROMPT.insertion({"length": 3, "segments": False}) == Insertion(3, 0, shift=3, segments=False)
    with pytest.raises(Misfit, match="word_prompt: segments must be true or false"):
        WORD_PROMPT.insertion({"length": 3})
