import numpy as np
import pytest

from adapters.batch.rows import Row, check_row, leaves, members_of, own_tokens, pooled_token, positions, segment_ids
from adapters.composition import parse
from adapters.errors import InvalidArrangement, InvalidRow, UnsupportedComposition
from adapters.manifest import HeadSpec
from adapters.weights import Resident
from tests.adapters import builders
from tests.adapters.batch.arrangements import average, split

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


def test_members_follow_the_composition():
    names = {}

    def resident(ref):
        return names.setdefault(str(ref), object.__new__(Resident))

    value = {"stack": ["l", {"fuse": ["a", ["b", "c"]], "name": "f"}, {"average": ["a", "b"], "weights": [1, 3]}]}
    low, fused, mean = members_of(parse(value), resident)
    assert low is names["l"]
    assert (fused.kind, fused.chained, fused.fusion) == ("fuse", (False, True), names["f"])
    assert fused.arms == ((names["a"],), (names["b"], names["c"]))
    assert mean.weights == (0.25, 0.75)
    assert [names[n] for n in "labcab"] == list(leaves((low, fused, mean)))
    assert members_of(parse({"average": ["a", "b"]}), resident)[0].weights == (0.5, 0.5)
    assert members_of(parse({"split": ["a", {"split": ["b", "c"], "splits": [1, 2]}], "splits": [3, 4]}), resident)


@pytest.mark.parametrize("value", [{"parallel": ["a", "b"]}, {"fuse": ["a", "b"]}, ["a", {"multi_task": ["b"]}]])
def test_what_stands_for_several_rows_or_lacks_its_fusion_has_no_members(value):
    with pytest.raises(UnsupportedComposition):
        members_of(parse(value), lambda ref: object.__new__(Resident))


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"positions": (4,)}, "positions"),
        ({"positions": (-1,)}, "positions"),
        ({"word_starts": (0,)}, "word starts"),
        ({"word_starts": (1, 1, 3)}, "word starts"),
        ({"word_starts": (1, 5)}, "word starts"),
    ],
)
def test_positions_and_words_lie_within_the_row(change, fault):
    with pytest.raises(InvalidRow, match=fault):
        check_row(Row((), None, None, np.arange(5, 9), **change), GEOMETRY)
    check_row(Row((), None, None, np.arange(5, 9), positions=(3, 0), word_starts=(0, 2, 4)), GEOMETRY)


def test_heads_that_need_more_of_the_row_are_refused_without_it():
    trees = HeadSpec("dependency_parsing", 1, None, False, "tokens", ("root", "obj"), "tree")
    words = HeadSpec("masked_lm", 2, None, True, "tokens", (), "vocabulary", vocabulary=9, width=7)
    parser, speller = builders.in_one_arena(
        [builders.adapter("bert", [builders.PARTS["invertible"]], head) for head in (trees, words)]
    )
    with pytest.raises(InvalidRow, match="word starts"):
        check_row(Row((), parser, None, np.arange(5, 9)), GEOMETRY)
    with pytest.raises(InvalidRow, match="undoes the row's invertible adapter"):
        check_row(Row((speller,), speller, None, np.arange(5, 9)), GEOMETRY)
    check_row(Row((), speller, None, np.arange(5, 9)), GEOMETRY)


def test_splits_must_hold_all_tokens_of_a_row_and_of_an_arms_share():
    member = builders.in_one_arena([builders.adapter("bert", [builders.PARTS["seq_bn"]])])[0]
    prompt = builders.in_one_arena([builders.adapter("bert", [builders.PARTS["prompt"]])])[0]

    def row(*members, length):
        return Row(members, None, None, builders.ids(1, length))

    inner = split((member,), (member,), splits=[1, 1])
    outer = split((member,), [inner], splits=[3, 4])
    for fine in (row(inner, length=2), row(outer, length=5), row(outer, length=2)):  # the last gives `inner` nothing
        check_row(fine, GEOMETRY)
    for bad, reason in (
        (row(inner, length=3), r"3 tokens, but the splits \[1, 1\] add up to 2"),
        (row(outer, length=6), r"3 tokens, but the splits \[1, 1\] add up to 2"),
        (row(prompt, inner, length=1), "4 tokens"),  # three are the prompt's
        (row(average([outer], (member,), weights=[1, 1]), length=8), r"8 tokens, but the splits \[3, 4\]"),
    ):
        with pytest.raises(InvalidArrangement, match=reason):
            check_row(bad, GEOMETRY)


def behind(case: str, family: str, ids, types=None, **more) -> Row:
    resident = builders.in_one_arena([builders.adapter(family, [builders.PARTS[case]])])[0]
    return Row((resident,), None, None, np.array(ids), None if types is None else np.array(types), **more)


def test_a_prompt_of_words_has_positions_of_its_own_and_a_past_shifts_the_rows():
    prompt, past = behind("word_prompt", "bert", [7, 8]), behind("past_prefix", "bert", [7, 8])
    assert (prompt.length, past.length) == (5, 2)
    assert positions(prompt, GEOMETRY, after_pad=False).tolist() == [0, 1, 2, 3, 4]
    assert positions(past, GEOMETRY, after_pad=False).tolist() == [4, 5]


def test_roberta_counts_pads_behind_a_prompt_and_leaves_them_out_behind_a_past():
    ids = [7, 1, 9]
    assert positions(behind("word_prompt", "roberta", ids), ROBERTA, after_pad=True).tolist() == [2, 3, 4, 5, 6, 7]
    assert positions(behind("past_prefix", "roberta", ids), ROBERTA, after_pad=True).tolist() == [6, 1, 7]


def test_segment_ids_do_not_count_where_the_prompt_or_the_head_says_so():
    assert segment_ids(behind("word_prompt", "bert", [7, 8], [0, 1])).tolist() == [0, 0, 0, 0, 1]
    assert segment_ids(behind("past_prefix", "bert", [7, 8], [0, 1])).tolist() == [0, 0]
    spec = HeadSpec("question_answering", 1, None, True, "tokens", ("start", "end"), "span", segments=False)
    head = builders.in_one_arena([builders.adapter("bert", [], spec)])[0]
    assert segment_ids(Row((), head, None, np.array([7, 8]), np.array([0, 1]))).tolist() == [0, 0]


def test_a_row_must_end_within_the_positions_behind_the_adapters_own():
    check_row(behind("past_prefix", "bert", [7] * 36), GEOMETRY)
    with pytest.raises(InvalidRow, match="37 tokens; behind the adapter's 4 the backbone takes 36"):
        check_row(behind("past_prefix", "bert", [7] * 37), GEOMETRY)


def test_the_last_token_and_the_one_that_is_counted_differ_where_pads_stand_between():
    geometry = builders.profile("llama").geometry
    pad = geometry.pad_token_id
    row = Row((), None, None, np.array([7, pad, 8, 9, pad]))
    assert pooled_token(row, geometry, "last_token") == 3
    assert pooled_token(row, geometry, "counted_token") == 2
    assert pooled_token(row, geometry, "first_token") == 0
    empty = Row((), None, None, np.array([pad, pad]))
    assert pooled_token(empty, geometry, "last_token") == 0
