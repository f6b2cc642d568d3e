import pytest
import torch

from adapters.errors import Misfit
from adapters.methods.base import BaseMap, Fitting
from adapters.methods.word_rows import WORD_ROWS, WORDS
from tests.adapters.builders import HIDDEN, VOCABULARY
from tests.adapters.methods import operands

FITTING = operands.fitting()
TOKENS = (40, 7, 55)
IDS = torch.tensor([7, 8, 40, 55, 0, 7, 89, 40, 1, 7, 55, 54])[:, None]


def run(config, y):
    held = [operands.stored(WORD_ROWS, config, seed)[f"{WORDS}/rows"] for seed in (1, 2, 3)]
    blocks = [WORD_ROWS.fold(config, {f"{WORDS}/rows": rows}, FITTING)[WORDS] for rows in held]
    operand = operands.operand(blocks)
    table = torch.zeros(HIDDEN, VOCABULARY)
    out = WORD_ROWS.apply(WORD_ROWS.change(None, IDS, table, operand), y, IDS, table, operand)
    return held, out


def test_every_adapters_own_rows_stand_in_for_their_tokens_alone():
    y = operands.tokens(HIDDEN, 1)
    held, out = run({"tokens": list(TOKENS)}, y)
    segments = [segment for segment, (start, end) in enumerate(operands.BOUNDS) for _ in range(start, end)]
    for place, (token, segment) in enumerate(zip(IDS[:, 0].tolist(), segments, strict=True)):
        wanted = held[segment][TOKENS.index(token)] if token in TOKENS else y[place]
        assert torch.equal(out[place], wanted)


def test_a_whole_table_has_a_row_for_every_token():
    held, out = run({"tokens": None}, operands.tokens(HIDDEN, 1))
    assert held[0].shape == (VOCABULARY, HIDDEN)
    assert torch.equal(out[:5], held[0][IDS[:5, 0]])
    assert torch.equal(out[6:], held[2][IDS[6:, 0]])


def test_it_starts_as_the_backbones_own_rows():
    table = torch.randn(VOCABULARY, HIDDEN)
    fitting = Fitting(FITTING.geometry, FITTING.architecture, lambda _: BaseMap(table.T, torch.zeros(HIDDEN)))
    start = WORD_ROWS.initialise({"tokens": list(TOKENS)}, fitting, torch.Generator())
    assert torch.equal(start[f"{WORDS}/rows"], table[list(TOKENS)])


@pytest.mark.parametrize("tokens", [[], [3, 3], [VOCABULARY], [-1], [True], "3", 3, [1.5]])
def test_rows_are_of_different_tokens_of_the_vocabulary(tokens):
    with pytest.raises(Misfit, match="tokens must be"):
        WORD_ROWS.shapes({"tokens": tokens}, FITTING)
