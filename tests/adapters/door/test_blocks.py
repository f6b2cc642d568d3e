import pytest

from adapters import composition
from adapters.composition import Leaf
from adapters.door import blocks
from adapters.door.blocks import Average, BatchSplit, Fuse, MultiTask, Parallel, Split, Stack, Sum, block, for_rows
from adapters.errors import InvalidComposition
from adapters.refs import Reference


def leaf(name: str) -> Leaf:
    return Leaf(Reference(name))


def test_names_lists_blocks_and_json_mean_the_same():
    stacked = composition.Stack((leaf("a"), leaf("b")))
    assert block(["a", "b"]) == stacked
    assert block([["a"], ["b"]]) == stacked
    assert block(Stack("a", "b")) == stacked
    assert block({"stack": ["a", "b"]}) == stacked
    assert block(composition.Composition(stacked)) == stacked
    assert block(composition.Stack(("a", "b"))) == stacked
    assert block("a") == leaf("a")
    assert block([]) == composition.Stack(())


def test_every_kind_of_block_has_its_json():
    pairs = [
        (Fuse("a", "b", name="f"), {"fuse": ["a", "b"], "name": "f"}),
        (Average("a", "b", weights=[1, 3]), {"average": ["a", "b"], "weights": [1, 3]}),
        (Parallel("a", ["b", "c"]), {"parallel": ["a", ["b", "c"]]}),
        (Split("a", "b", splits=[2, 3]), {"split": ["a", "b"], "splits": [2, 3]}),
        (MultiTask("a", "b"), {"multi_task": ["a", "b"]}),
        (Sum("a", "b"), {"sum": ["a", "b"]}),
        (Split("a", "b", splits=[3, 3]), Split("a", "b", splits=3)),
        (Stack("a", Fuse("b", "c")), ["a", {"fuse": ["b", "c"]}]),
    ]
    for made, written in pairs:
        assert block(written) == made


def test_names_may_be_any_text():
    made = block({"stack": ["My Adapter", "sentiment/sst-2@ukp"]})
    assert list(blocks.names(made)) == ["My Adapter", "sentiment/sst-2@ukp"]


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (3, "not int"),
        (Leaf, "not type"),
        ({"heap": ["a"]}, "exactly one of"),
        ({"stack": ["a"], "fuse": ["b"]}, "exactly one of"),
        ({"stack": "a"}, "takes a list"),
        ({"average": ["a"], "name": "x"}, "takes a list, and beside it weights"),
        ({"fuse": []}, "Fuse is empty"),
        ({"fuse": [{"fuse": ["a"]}]}, "Fuse can not hold Fuse"),
        ({"average": [{"parallel": ["a"]}]}, "Average can not hold Parallel"),
        ({"sum": [["a"]]}, "Sum can not hold Stack"),
        ({"fuse": ["a"], "name": 3}, "name of a Fuse is a text"),
        *(({"average": ["a", "b"], "weights": w}, "weights takes 2 numbers") for w in ([1], [1, 2, 3], "ab", 1.5)),
        ({"average": ["a", "b"], "weights": [float("nan"), 1]}, "weights must be numbers"),
        ({"average": ["a", "b"], "weights": [1, -1]}, "sum, which is zero"),
        (composition.Average((leaf("a"),), (1.0, 2.0)), "weights takes 1 numbers"),
        ({"split": ["a", "b"]}, "splits takes 2 lengths"),
        ({"split": ["a", "b"], "splits": [7]}, "splits takes 2 lengths"),
        *(({"split": ["a", "b"], "splits": s}, "positive integers") for s in ([-1, 8], [0, 7], [3.5, 3.5], [True, 1])),
        (composition.Split((leaf("a"),), (0,)), "positive integers"),
        (["b", {"stack": ["a"], "skip_layers": [0]}], "belongs to the outermost block"),
        ({"average": ["b", {"stack": ["a"], "skip_layers": [0]}]}, "belongs to the outermost block"),
        ([composition.Composition(composition.Stack((leaf("a"),)), frozenset([1]))], "belongs to the outermost block"),
    ],
)
def test_what_is_no_composition_is_refused(value, reason):
    with pytest.raises(InvalidComposition, match=reason):
        block(value)


def test_a_batch_split_gives_every_row_its_own_block():
    made = BatchSplit("a", ["b", "c"], batch_sizes=[2, 1])
    assert for_rows(made, 3) == [leaf("a"), leaf("a"), composition.Stack((leaf("b"), leaf("c")))]
    assert for_rows(BatchSplit("a", "b", batch_sizes=1), 2) == [leaf("a"), leaf("b")]
    with pytest.raises(InvalidComposition, match="add up to no batch of 4 rows"):
        for_rows(made, 4)
    for wrong in ([1], [1, 0], [1.5, 1], [True, 1], True, "ab", None):
        with pytest.raises(InvalidComposition, match="2 numbers of rows"):
            BatchSplit("a", "b", batch_sizes=wrong)
    with pytest.raises(InvalidComposition, match="0 numbers of rows"):
        BatchSplit(batch_sizes=1)
    with pytest.raises(InvalidComposition, match="add up to 1"):
        Average("a", "b", weights=[1, 2], normalize_weights=False)


def test_a_batch_split_inside_of_a_block_is_taken_out_row_by_row():
    made = block(["lang", BatchSplit("a", Stack("b", "c"), batch_sizes=[1, 2])])
    expected = [["lang", "a"], ["lang", "b", "c"], ["lang", "b", "c"]]
    assert [list(blocks.names(one)) for one in for_rows(made, 3)] == expected
    assert all(isinstance(one, composition.Stack) and len(one.children) > 1 for one in for_rows(made, 3))
    averaged = block(Average(BatchSplit("a", "b", batch_sizes=1), "c", weights=[2, 1]))
    assert for_rows(averaged, 2)[1] == Average("b", "c", weights=[2, 1])


def test_rows_of_one_share_are_those_of_the_same_children():
    def runs(value, rows: int) -> list[int]:
        found = blocks.shares(block(value), rows)
        return [found.index(one) for one in found]

    assert runs(["a", "b"], 3) == [0, 0, 0]
    assert runs(BatchSplit("a", "a", batch_sizes=[2, 1]), 3) == [0, 0, 2]
    assert runs(["lang", BatchSplit("a", BatchSplit("b", "c", batch_sizes=1), batch_sizes=[1, 2])], 3) == [0, 1, 2]


def test_one_head_answers_unless_a_batch_is_split_or_runs_in_parallel():
    assert blocks.has_one_head(None)
    assert blocks.has_one_head(block(["a", MultiTask("b", "c")]))
    assert not blocks.has_one_head(block(["a", Parallel("b", "c")]))
    assert not blocks.has_one_head(BatchSplit("a", "b", batch_sizes=1))


def test_a_block_without_splits_is_shared_by_all_rows():
    made = Stack("a", "b")
    assert all(one is made for one in for_rows(made, 3))


def test_a_fusion_is_called_as_its_children_unless_named():
    assert list(blocks.fusions(block(["x", Fuse("a", Stack("b", "c"))]))) == ["a,c"]
    assert list(blocks.fusions(Fuse("a", "b", name="mine"))) == ["mine"]
    assert list(blocks.fusions(None)) == list(blocks.names(None)) == []


def test_rows_carry_named_fusions_stacks_and_skipped_layers():
    made = blocks.composed(Fuse("a", "b"), frozenset([1]))
    assert made.skip_layers == {1}
    assert made.block.name == Reference("a,b", alias=blocks.FUSION)
    assert blocks.composed(leaf("a"), frozenset()).block == composition.Stack((leaf("a"),))
    assert blocks.skipped({"stack": ["a"], "skip_layers": [0, 2]}) == {0, 2}
    for wrong in ([-1], "x", 3, [1.0], None):
        with pytest.raises(InvalidComposition, match="layer numbers from 0"):
            blocks.skipped({"stack": ["a"], "skip_layers": wrong})
    assert blocks.skipped("a") == blocks.skipped(None) == frozenset()
