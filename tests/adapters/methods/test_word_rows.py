import pytest
import torch

from adapters.batch.rows import Row
from adapters.errors import Misfit
from adapters.manifest import PartSpec
from adapters.methods.base import BaseMap, Fitting
from adapters.methods.fold import fold
from adapters.methods.word_rows import WORD_ROWS, WORDS
from adapters.weights import Package, alone
from tests.adapters import builders
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


@pytest.mark.parametrize("family", ["t5", "bart"])
def test_whole_tables_of_an_encoder_decoder_are_each_stacks_own(family):
    backbone, vocabulary = builders.backbone(family), builders.profile(family).geometry.vocabulary
    whole = builders.package(family, [PartSpec("word_rows", {"tokens": None})])
    assert set(whole.tensors) == {"model/words/rows", "model/decoder_words/rows"}
    some = builders.package(family, [PartSpec("word_rows", {"tokens": list(range(vocabulary))})])

    def answers(package, rows):
        held = Package(package.manifest, {name: rows[name].clone() for name in package.tensors})
        own = alone(fold(held, backbone.profile, torch.float32, backbone.base_maps))
        row = Row((own,), None, None, builders.ids(1, 7), decoder_ids=builders.ids(2, 4))
        return [backbone.run([row], [want])[0] for want in ("encoder_hidden_state", "hidden_state")]

    first, second = whole.tensors["model/words/rows"], whole.tensors["model/decoder_words/rows"]
    both = answers(whole, {"model/words/rows": first, "model/decoder_words/rows": first})
    for mine, theirs in zip(both, answers(some, {"model/words/rows": first}), strict=True):
        assert torch.allclose(mine, theirs, atol=1e-5)
    apart = answers(whole, whole.tensors)
    assert torch.allclose(apart[0], both[0], atol=1e-5)
    assert not torch.allclose(apart[1], both[1], atol=1e-2)
    assert not torch.allclose(apart[1], answers(some, {"model/words/rows": second})[1], atol=1e-2)
