from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from adapters.batch.segments import Segment, layout_of, order_rows, segments_of

KEYS = st.lists(st.sampled_from(["a", "b", "c", None]), max_size=20)


def test_a_layout_counts_tokens():
    layout = layout_of([3, 1, 4])
    assert layout.starts == (0, 3, 4, 8)
    assert (layout.rows, layout.tokens, layout.bounds(2)) == (3, 8, (4, 8))
    assert layout_of([]).tokens == 0


def test_segments_are_runs_of_equal_keys():
    assert segments_of(["a", "a", None, "a", "b"]) == (Segment("a", 0, 2), Segment("a", 3, 4), Segment("b", 4, 5))


@given(KEYS)
def test_segments_cover_exactly_the_rows_with_a_key(keys):
    found = segments_of(keys)
    covered = [row for s in found for row in range(s.first, s.last)]
    assert covered == [row for row, key in enumerate(keys) if key is not None]
    assert all(keys[row] == s.key for s in found for row in range(s.first, s.last))
    assert all(one.last < other.first or one.key != other.key for one, other in pairwise(found))


@given(st.lists(st.lists(st.sampled_from("abc"), max_size=3).map(tuple), max_size=20))
def test_ordering_is_a_permutation_in_which_equal_stacks_touch(stacks):
    order = order_rows(stacks)
    assert sorted(order) == list(range(len(stacks)))
    ordered = [stacks[i] for i in order]
    assert len(segments_of(ordered)) == len(set(stacks))


def test_one_language_under_many_tasks_is_one_segment_at_the_bottom():
    stacks = [("sw", "t1"), ("fi", "t1"), ("sw", "t2"), ("sw", "t3"), ("fi", "t2")]
    ordered = [stacks[i] for i in order_rows(stacks)]
    assert len(segments_of([stack[0] for stack in ordered])) == 2
