import pytest

from adapters.composition import Composition, Fuse, Leaf, Parallel, Stack, parse
from adapters.refs import Reference
from serving.api.naming import named, of_target
from serving.errors import Unprocessable


def places(raw):
    found = named(raw)
    return {str(block.ref): pointer for block, pointer in found.places if isinstance(block, Leaf)}


@pytest.mark.parametrize(
    ("raw", "pointers"),
    [
        ("a+b", {"a": "/adapters", "b": "/adapters"}),
        (["a", "b@2"], {"a": "/adapters/0", "b@2": "/adapters/1"}),
        ({"stack": ["a", "b"]}, {"a": "/adapters/stack/0", "b": "/adapters/stack/1"}),
        (
            ["a", {"average": [["b", "c"], "d"], "weights": [1, 2]}],
            {
                "a": "/adapters/0",
                "b": "/adapters/1/average/0/0",
                "c": "/adapters/1/average/0/1",
                "d": "/adapters/1/average/1",
            },
        ),
        (
            {"parallel": ["a", {"stack": ["b"]}]},
            {"a": "/adapters/parallel/0", "b": "/adapters/parallel/1/stack/0"},
        ),
    ],
    ids=str,
)
def test_every_name_has_its_place_in_the_body(raw, pointers):
    assert places(raw) == pointers


def test_a_fuse_stands_after_what_it_fuses():
    found = named(["a", {"fuse": ["b", "c"], "name": "f"}])
    kinds = [(type(block).__name__, pointer) for block, pointer in found.places]
    assert kinds[-2:] == [("Fuse", "/adapters/1"), ("Stack", "/adapters")]


@pytest.mark.parametrize("raw", [None, [], "base", {"stack": []}], ids=str)
def test_the_bare_backbone(raw):
    assert named(raw).composition == Composition(Stack(()))


def test_the_short_form_may_name_a_vocabulary():
    assert named("a~klingon@2").embedding == Reference("klingon", 2)
    assert named("a").embedding is None


@pytest.mark.parametrize(
    ("raw", "alone"),
    [("a@2", True), (["a@2"], True), ({"stack": ["a@2"]}, True), ("a@2~k", True)]
    + [(raw, False) for raw in ("a+b", [], {"parallel": ["a"]}, {"stack": ["a"], "skip_layers": [0]})],
    ids=str,
)
def test_one_name_alone_may_be_a_target(raw, alone):
    assert named(raw).alone == (Reference("a", 2) if alone else None)


@pytest.mark.parametrize(
    ("raw", "code", "pointer"),
    [
        ({"fuse": ["a", "b"]}, "missing_fusion", "/adapters/name"),
        ({"stack": ["a", {"fuse": ["a", "b"], "name": None}]}, "missing_fusion", "/adapters/stack/1/name"),
        ([{"split": [["a", {"parallel": ["b", "c"]}], "d"], "splits": [1, 2]}], None, "/adapters/0/split/0/1"),
        ([{"average": [["a", {"multi_task": ["b", "c"]}], "d"]}], None, "/adapters/0/average/0/1"),
        ({"parallel": [["a", {"parallel": ["b", "c"]}], "d"]}, None, "/adapters/parallel/0/1"),
        ([{"parallel": ["a", "b"]}, {"parallel": ["a", "b", "c"]}], None, "/adapters"),
        ({"stack": [{"multi_task": ["a"]}, {"multi_task": ["a", "b"]}]}, None, "/adapters/stack"),
        ({"mean": ["a"]}, "invalid_composition", "/adapters"),
        ([["a"]], "invalid_composition", "/adapters/0"),
    ],
    ids=str,
)
def test_what_no_row_can_be_is_refused_where_it_stands(raw, code, pointer):
    with pytest.raises(Unprocessable) as caught:
        named(raw)
    assert (caught.value.code, caught.value.faults[0].pointer) == (code or "unsupported_composition", pointer)


def test_branches_and_tasks_become_rows_of_their_own():
    found = named(["l", {"parallel": ["a", ["b", "c"]]}])
    assert found.parallel
    assert found.tasks is None
    assert found.branches(0) == (parse(["l", "a"]), parse(["l", "b", "c"]))
    tasks = named(["l", {"multi_task": ["a@2", ["b", "c"]]}, {"parallel": ["x", "y"]}])
    assert tasks.tasks == 2
    assert tasks.branches(1) == (parse(["l", "b", "c", "x"]), parse(["l", "b", "c", "y"]))
    assert tasks.task_names() == (frozenset({"a", "a@2"}), frozenset({"c"}))


def test_a_target_stands_where_it_was_named():
    found = of_target({"stack": ["a@1", {"fuse": ["b@1", "c@1"], "name": "f@1"}], "skip_layers": [1]})
    assert {pointer for _, pointer in found.places} == {"/adapters"}
    assert found.composition.skip_layers == frozenset({1})
    assert any(isinstance(block, Fuse) for block, _ in found.places)
    assert not any(isinstance(block, Parallel) for block, _ in found.places)
