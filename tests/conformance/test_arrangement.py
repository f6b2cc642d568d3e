"""What runs on which input, for every block of the format."""

import pytest

from adapters.composition import to_json
from adapters.errors import InvalidComposition
from tests.conformance.arrangement import arrange


def rows(composition, inputs=2, **more):
    return list(arrange({"composition": composition, "head": None} | more, inputs))


def told(row):
    """The composition in the case's own names."""

    def named(value):
        if isinstance(value, str):
            return row.names[value][1]
        if isinstance(value, list):
            return [named(item) for item in value]
        if isinstance(value, dict):
            return {
                key: item if key in ("weights", "splits", "skip_layers") else named(item) for key, item in value.items()
            }
        return value

    return named(to_json(row.composition))


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ("My Adapter!", {"stack": ["My Adapter!"]}),
        (None, {"stack": []}),
        ({"stack": ["a", "b"]}, {"stack": ["a", "b"]}),
        ({"average": ["a", "b"], "weights": [0.3, 0.7]}, {"average": ["a", "b"], "weights": [0.3, 0.7]}),
        (
            {"split": ["a", {"stack": ["b", "c"]}], "splits": [4, 4]},
            {"split": ["a", {"stack": ["b", "c"]}], "splits": [4, 4]},
        ),
        ({"fuse": ["a", "b"], "name": "x y"}, {"fuse": ["a", "b"], "name": "x y"}),
        ({"fuse": ["a", {"stack": ["c", "b"]}]}, {"fuse": ["a", {"stack": ["c", "b"]}], "name": "a,b"}),
        ({"sum": ["a", "b"]}, {"sum": ["a", "b"]}),
    ],
)
def test_every_input_runs_the_composition_under_the_case_s_names(given, wanted):
    found = rows(given, 3)
    assert [told(row) for row in found] == [wanted] * 3
    assert [(row.source, row.place, row.part) for row in found] == [(i, i, None) for i in range(3)]
    assert [row.bare for row in found] == [given is None] * 3


def test_a_fusion_and_an_adapter_of_one_name_are_two_things():
    (row,) = rows({"stack": ["a", {"fuse": ["b", "c"], "name": "a"}]}, 1)
    assert sorted(row.names.values()) == [("adapter", "a"), ("adapter", "b"), ("adapter", "c"), ("fusion", "a")]


def test_skipped_layers_go_along():
    assert told(rows("a", 1, skip_layers=[0, 2])[0]) == {"stack": ["a"], "skip_layers": [0, 2]}
    assert told(rows(None, 1, skip_layers=[1])[0]) == {"stack": [], "skip_layers": [1]}


def test_the_head_is_the_case_s_or_the_row_s_own():
    assert [row.head for row in rows("a", head={"name": "h", "type": "tagging"})] == ["h", "h"]
    assert [(row.head, row.top) for row in rows({"stack": ["a", "b"]})] == [(None, "b")] * 2
    own = [{"composition": "a", "head": "a"}, {"composition": None, "head": None}]
    assert [(told(row)["stack"], row.head, row.bare) for row in rows(None, rows=own)] == [
        (["a"], "a", False),
        ([], None, True),
    ]


@pytest.mark.parametrize(
    ("composition", "wanted"),
    [
        ({"batch_split": ["a", {"stack": ["b", "c"]}], "batch_sizes": [1, 2]}, [["a"], ["b", "c"], ["b", "c"]]),
        (
            {"stack": ["l", {"batch_split": ["a", "b"], "batch_sizes": [1, 2]}]},
            [["l", "a"], ["l", "b"], ["l", "b"]],
        ),
    ],
)
def test_batch_split_gives_each_input_its_part_and_that_part_s_head(composition, wanted):
    found = rows(composition, 3)
    assert [told(row)["stack"] for row in found] == wanted
    assert [row.part for row in found] == [(0, 0), (1, 0), (1, 1)]
    assert [row.head for row in found] == [part[-1] for part in wanted]


def test_a_batch_split_inside_of_another_divides_its_rows():
    inner = {"batch_split": ["b", "c"], "batch_sizes": [1, 1]}
    found = rows({"batch_split": ["a", inner], "batch_sizes": [1, 2]}, 3)
    assert [told(row)["stack"] for row in found] == [["a"], ["b"], ["c"]]
    with pytest.raises(ValueError, match="fewer than the inputs"):
        rows({"batch_split": ["a"], "batch_sizes": [1]}, 2)


def test_parallel_gives_every_branch_all_inputs_one_branch_after_the_other():
    found = rows({"stack": ["l", {"parallel": ["a", {"stack": ["b", "c"]}]}]}, 2)
    assert [told(row)["stack"] for row in found] == [["l", "a"], ["l", "a"], ["l", "b", "c"], ["l", "b", "c"]]
    assert [row.place for row in found] == [0, 1, 2, 3]
    assert [row.source for row in found] == [0, 1, 0, 1]
    assert [row.part for row in found] == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert [row.head for row in found] == ["a", "a", "c", "c"]


def test_multi_task_chooses_by_the_input_s_task():
    found = rows({"multi_task": ["a", "b"]}, 3, task_ids=[1, 0, 1], head={"name": "h"})
    assert [told(row)["stack"] for row in found] == [["b"], ["a"], ["b"]]
    assert {row.head for row in found} == {"h"}


def test_what_the_grammar_refuses_is_refused():
    with pytest.raises(InvalidComposition):
        rows({"fuse": ["a", {"parallel": ["b", "c"]}], "name": "x"})
