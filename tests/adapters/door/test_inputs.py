import pytest
import torch

from adapters.door import inputs
from adapters.errors import InvalidRow
from tests.adapters import builders

IDS = torch.tensor([[5, 6, 7, 0], [0, 0, 8, 9]])
MASK = torch.tensor([[1, 1, 1, 0], [0, 0, 1, 1]])


def test_a_row_is_its_tokens_under_the_mask_on_either_side():
    given = inputs.read(IDS, MASK, IDS // 4)
    assert [row.tolist() for row in given.ids] == [[5, 6, 7], [8, 9]]
    assert [row.tolist() for row in given.types] == [[1, 1, 1], [2, 2]]
    assert (given.choices, given.questions) == (None, 2)


def test_without_a_mask_all_tokens_are_the_rows_own():
    assert [len(row) for row in inputs.read(IDS, None, None).ids] == [4, 4]


def test_questions_with_choices_are_a_row_per_choice():
    given = inputs.read(IDS.view(1, 2, 4), MASK.view(1, 2, 4), None)
    assert [row.tolist() for row in given.ids] == [[5, 6, 7], [8, 9]]
    assert (given.choices, given.questions) == (2, 1)


def test_values_return_to_where_their_tokens_lay():
    given = inputs.read(IDS, MASK, None)
    values = [torch.ones(3, 2), torch.full((2, 2), 2.0)]
    padded = given.padded(values, (0, 1), fill=-1.0)
    assert padded[:, :, 0].tolist() == [[1, 1, 1, -1], [-1, -1, 2, 2]]
    assert given.padded(values[1:], (1,)).tolist() == [[[0, 0], [0, 0], [2, 2], [2, 2]]]


def test_goals_are_those_of_the_rows_own_tokens():
    given = inputs.read(IDS, MASK, None)
    assert [row.tolist() for row in given.goals(IDS * 10)] == [[50, 60, 70], [80, 90]]
    with pytest.raises(InvalidRow, match=r"labels are \[2, 3\], but the batch is \[2, 4\]"):
        given.goals(IDS[:, :3])


def test_padding_carries_gradients():
    given = inputs.read(IDS, MASK, None)
    values = [torch.ones(3, 1, requires_grad=True), torch.ones(2, 1, requires_grad=True)]
    torch.autograd.backward((given.padded(values, (0, 1)) * torch.arange(8).view(2, 4, 1)).sum())
    assert [value.grad.flatten().tolist() for value in values] == [[0, 1, 2], [6, 7]]


@pytest.mark.parametrize(
    ("ids", "mask", "types", "reason"),
    [
        (IDS[0], None, None, "input_ids must be a tensor"),
        ([[1, 2]], None, None, "input_ids must be a tensor"),
        (IDS, MASK[:1], None, "attention_mask is"),
        (IDS, None, IDS[:, :2], "token_type_ids is"),
        (IDS.float(), None, None, "input_ids must be integers, not torch.float32"),
        (IDS > 0, None, None, "input_ids must be integers"),
        (IDS, None, IDS.float(), "token_type_ids must be integers"),
        (IDS[:0], None, None, "at least one row"),
        (IDS[:, :0], None, None, "a row one token"),
        (IDS, torch.tensor([[1, 0, 1, 0], [1, 1, 1, 1]]), None, "attention_mask has holes"),
    ],
)
def test_shapes_that_do_not_fit_and_masks_with_holes_are_refused(ids, mask, types, reason):
    with pytest.raises(InvalidRow, match=reason):
        inputs.read(ids, mask, types)


def test_word_starts_end_where_their_padding_begins():
    starts = torch.tensor([[1, 3, 4, 7], [1, 2, 0, 0], [0, 2, 5, -1]])
    assert [inputs.word_starts(starts, row) for row in range(3)] == [(1, 3, 4, 7), (1, 2), (0, 2, 5)]


@pytest.mark.parametrize("starts", [[1, 2, 3, 1], [1, 3, 3], [4, 2, 0]])
def test_word_starts_that_do_not_rise_name_the_padding_that_is_meant(starts):
    with pytest.raises(InvalidRow, match=r"word_starts of row 1 do not rise: .*; pad them with 0, or with -1"):
        inputs.word_starts([[1, 2], starts], 1)


def test_the_decoders_rows_are_given_or_the_labels_or_the_rows_moved():
    geometry = builders.profile("t5").geometry
    given = inputs.read(IDS, MASK, None)
    own = inputs.targets(given, None, None, None, geometry)
    assert [row.tolist() for row in own.ids] == [[0, 5, 6], [0, 8]]
    assert torch.equal(own.own, given.own)
    labels = inputs.targets(given, None, None, torch.tensor([[7, -100], [8, 9]]), geometry)
    assert [row.tolist() for row in labels.ids] == [[0, 7], [0, 8]]
    said = inputs.targets(given, IDS + 1, MASK, torch.tensor([[7, -100], [8, 9]]), geometry)
    assert [row.tolist() for row in said.ids] == [[6, 7, 8], [9, 10]]


def test_a_backbone_of_one_stack_is_given_nothing_for_a_decoder():
    given, geometry = inputs.read(IDS, MASK, None), builders.profile("bert").geometry
    assert inputs.targets(given, None, None, IDS, geometry) is given
    with pytest.raises(InvalidRow, match="no decoder"):
        inputs.targets(given, IDS, None, None, geometry)
