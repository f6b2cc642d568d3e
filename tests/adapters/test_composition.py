import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.composition import (
    BARE,
    MAX_LEAVES,
    NESTING,
    Average,
    Composition,
    Fuse,
    Leaf,
    Parallel,
    Split,
    Stack,
    Sum,
    branches,
    for_task,
    last,
    parse,
    parse_target,
    task_count,
    to_json,
)
from adapters.errors import InvalidComposition, UnsupportedComposition
from adapters.refs import AdapterRef, Reference


def leaf(text: str) -> Leaf:
    name, _, alias = text.partition("@")
    return Leaf(Reference(name, alias=alias or None))


def test_a_string_and_a_list_are_stacks():
    assert parse("a") == Composition(Stack((leaf("a"),)))
    assert parse(["a@prod", "b"]) == Composition(Stack((leaf("a@prod"), leaf("b"))))
    assert parse([]) == BARE


@pytest.mark.parametrize(
    ("value", "block"),
    [
        ({"fuse": ["a", "b"], "name": "f"}, Fuse((leaf("a"), leaf("b")), Reference("f"))),
        ({"average": ["a", "b"], "weights": [1, 0.5]}, Average((leaf("a"), leaf("b")), (1.0, 0.5))),
        ({"average": ["a", "b"], "weights": [-1, -3]}, Average((leaf("a"), leaf("b")), (-1.0, -3.0))),
        ({"parallel": ["a", ["b", "c"]]}, Parallel((leaf("a"), Stack((leaf("b"), leaf("c")))))),
        ({"split": ["a", "b"], "splits": [3, 4]}, Split((leaf("a"), leaf("b")), (3, 4))),
        ({"sum": ["a", "b"]}, Sum((leaf("a"), leaf("b")))),
        ({"stack": ["a", {"fuse": ["b", "c"]}]}, Stack((leaf("a"), Fuse((leaf("b"), leaf("c")))))),
    ],
)
def test_every_block_parses_to_a_frozen_value_and_back(value, block):
    composition = parse(value)
    assert composition.block == block
    assert len({composition, parse(to_json(composition))}) == 1


@pytest.mark.parametrize(
    ("value", "pointer"),
    [
        (3, ""),
        (None, ""),
        ({"stack": "a"}, "/stack"),
        ({"stack": ["a"], "fuse": ["b"]}, ""),
        ({"stack": ["a"], "extra": 1}, "/extra"),
        ({"fuse": []}, "/fuse"),
        ({"stack": ["a", 3]}, "/stack/1"),
        (["a", "B!"], "/1"),
        ({"average": ["a"], "weights": [float("nan")]}, "/weights"),
        ({"average": ["a"], "weights": [True]}, "/weights"),
        ({"average": ["a", "b"], "weights": [10**400, 1]}, "/weights"),
        ({"average": ["a", "b"], "weights": [1.7e308, 1.7e308]}, "/weights"),
        ({"average": ["a", "b"], "weights": [1, -1]}, "/weights"),
        ({"split": ["a", "b"], "splits": [3]}, "/splits"),
        ({"split": ["a", "b"]}, "/splits"),
        ({"sum": [["a"]]}, "/sum/0"),
        ({"fuse": ["a"], "name": "Bad Name"}, "/name"),
        ({"stack": ["a"], "skip_layers": [-1]}, "/skip_layers"),
        ({"stack": ["a"], "skip_layers": "0"}, "/skip_layers"),
        ({"stack": [{"stack": ["a"]}]}, "/stack/0"),
    ],
)
def test_faults_are_refused_with_a_pointer(value, pointer):
    with pytest.raises(InvalidComposition) as caught:
        parse(value)
    assert caught.value.pointer == pointer


def test_too_many_leaves_and_too_deep_nesting_are_refused():
    parse(["a"] * MAX_LEAVES)
    with pytest.raises(InvalidComposition, match="more than"):
        parse(["a"] * (MAX_LEAVES + 1))
    deep: object = "a"
    for _ in range(8):
        deep = {"split": [deep], "splits": [1]}
    with pytest.raises(InvalidComposition, match="deeper"):
        parse(deep)


def test_skipped_layers_ride_on_the_outermost_block_only():
    assert parse({"stack": ["a"], "skip_layers": [2, 0]}).skip_layers == frozenset({0, 2})
    assert to_json(parse({"stack": ["a"], "skip_layers": [2, 0]})) == {"stack": ["a"], "skip_layers": [0, 2]}
    with pytest.raises(InvalidComposition):
        parse(["a", {"fuse": ["b"], "skip_layers": [0]}])


def test_the_short_target_names_a_stack_and_an_embedding():
    composition, embedding = parse_target("lang-sw@prod+sentiment@3~klingon")
    assert composition == parse(["lang-sw@prod", "sentiment@3"])
    assert embedding == Reference("klingon")
    assert parse_target("base") == (BARE, None)
    with pytest.raises(InvalidComposition):
        parse_target("a~")
    with pytest.raises(InvalidComposition):
        parse_target("a++b")


def test_parallel_stands_for_one_composition_per_branch():
    assert branches(parse(["a", "b"])) == (parse(["a", "b"]),)
    assert branches(parse({"parallel": ["a", ["b", "c"]]})) == (parse(["a"]), parse(["b", "c"]))
    value = {"stack": ["l", {"parallel": ["a", {"average": ["b", "c"]}]}, {"parallel": ["d", "e"]}], "skip_layers": [1]}
    first, second = branches(parse(value))
    assert first == parse({"stack": ["l", "a", "d"], "skip_layers": [1]})
    assert second == parse({"stack": ["l", {"average": ["b", "c"]}, "e"], "skip_layers": [1]})
    with pytest.raises(UnsupportedComposition):
        branches(parse([{"parallel": ["a", "b"]}, {"parallel": ["a", "b", "c"]}]))


def test_a_task_chooses_one_child_of_every_multi_task():
    assert task_count(parse(["a"])) is None
    composition = parse({"stack": ["l", {"multi_task": ["a", ["b", "c"]]}]})
    assert task_count(composition) == 2
    assert for_task(composition, 0) == parse(["l", "a"])
    assert for_task(composition, 1) == parse(["l", "b", "c"])


def test_the_adapter_written_last_answers():
    assert str(last(parse(["a", {"fuse": ["b", "c"], "name": "f"}]).block).ref) == "c"
    assert last(BARE.block) is None


def test_map_pins_every_reference_including_the_fusion_package():
    def pin(reference):
        return AdapterRef("t", reference.name, 1, "sha256:" + "0" * 64)

    pinned = parse({"fuse": ["a", ["b"]], "name": "f"}).map(pin)
    assert [item.ref.name for item in pinned.leaves()] == ["a", "b"]
    assert pinned.block.name.name == "f"
    assert {pinned} == {pinned}


def test_the_nesting_table_speaks_of_every_block():
    assert len(NESTING) == 7


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.sampled_from(["a", "b@1", "c/d"]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["stack", "fuse", "average", "split", "splits", "weights", "name", "x"]), inner, max_size=3
        )
    ),
    max_leaves=12,
)


@given(JSON)
def test_any_json_parses_to_an_equal_value_or_is_refused(value):
    try:
        composition = parse(value)
    except InvalidComposition:
        return
    assert parse(to_json(composition)) == composition
