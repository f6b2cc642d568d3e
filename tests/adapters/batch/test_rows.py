import numpy as np
import pytest

from adapters.batch.rows import Row, check_row, own_tokens, positions, segment_ids
from adapters.errors import InvalidRow
from tests.adapters import builders

GEOMETRY = builders.profile("bert").geometry
ROBERTA = builders.profile("roberta").geometry


def with_prompt(case: str, length: int = 4) -> Row:
    resident = builders.in_one_arena([builders.adapter("bert", [builders.PARTS[case]])])[0]
    return Row((resident,), None, None, np.arange(5, 5 + length))


def test_plain_positions_count_from_zero():
    assert positions(Row((), None, None, np.array([7, 8, 9])), GEOMETRY, after_pad=False).tolist() == [0, 1, 2]


def test_roberta_positions_count_ids_that_are_not_the_pad_id():
    row = Row((), None, None, np.array([7, 1, 9]))
    assert positions(row, ROBERTA, after_pad=True).tolist() == [2, 1, 3]


@pytest.mark.parametrize(("case", "own"), [("prompt", [3, 4, 5, 6]), ("prompt_after_bos", [0, 3, 4, 5])])
def test_inserted_tokens_leave_the_rows_own_positions_alone(case, own):
    row = with_prompt(case)
    assert own_tokens(row).tolist() == own
    assert positions(row, GEOMETRY, after_pad=False)[own].tolist() == [0, 1, 2, 3]
    assert len(positions(row, GEOMETRY, after_pad=False)) == row.length == len(segment_ids(row))


def test_segment_ids_are_zero_unless_given():
    assert segment_ids(Row((), None, None, np.array([7, 8]))).tolist() == [0, 0]
    assert segment_ids(Row((), None, None, np.array([7, 8]), np.array([0, 1]))).tolist() == [0, 1]


def test_only_the_bottom_members_prompt_counts():
    plain, prompt = builders.in_one_arena(
        [builders.adapter("bert", [builders.PARTS["lora_qv"]]), builders.adapter("bert", [builders.PARTS["prompt"]])]
    )
    assert Row((plain, prompt), None, None, np.array([7])).length == 1
    assert Row((prompt, plain), None, None, np.array([7])).length == 4


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (Row((), None, None, np.array([], np.int64)), "without tokens"),
        (Row((), None, None, np.ones(41, np.int64)), "41 tokens; the backbone takes 40"),
        (Row((), None, None, np.ones(3, np.int64), np.ones(2, np.int64)), "differ in number"),
        (Row((), None, None, np.ones(2, np.int64), np.array([0, 2])), "segment id"),
    ],
)
def test_rows_that_can_not_run_are_refused(row, reason):
    with pytest.raises(InvalidRow, match=reason):
        check_row(row, GEOMETRY)


def test_a_head_must_be_one():
    headless = builders.in_one_arena([builders.adapter("bert", [builders.PARTS["lora_qv"]])])[0]
    with pytest.raises(InvalidRow, match="holds none"):
        check_row(Row((), headless, None, np.array([5])), GEOMETRY)
