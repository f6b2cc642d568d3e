import pytest

from adapters.composition import parse
from adapters.refs import AdapterRef
from serving.api.preparing import Preparation, check_forms, refusal, split_fault
from serving.api.selection import Branch, Selection
from serving.errors import Fault, TooLarge, Unprocessable
from serving.registry.records import Resolved, Version
from serving.tasks.inputs import Choices, Question
from serving.tasks.table import TASKS
from serving.tasks.task import Options
from serving.tasks.tokenization import Text, Tokenizer
from tests.serving.samples import adapter_manifest, head_spec, stack
from tests.serving.tasks.pieces import TOKENIZER

HEAD = Resolved(
    Version(AdapterRef("default", "h", 1, "sha256:h"), "adapter", adapter_manifest(head_spec()), 1, 0.0, "k"), None
)


def branch(task="text-classification", inserted=0, composition=None):
    return Branch(composition or stack(), TASKS[task], HEAD, inserted)


def pointer(i):
    return f"/inputs/{i}"


def parts(inputs, *branches, tokens=8, rows=100, items=1000, task_ids=None, **options):
    tasks = tuple((one,) for one in branches) if task_ids else (branches,)
    selection = Selection(tasks, (), parallel=len(branches) > 1, task_ids=task_ids)
    made = Preparation(selection, Options(**options), TOKENIZER, tokens, rows, items)
    return made.parts([Text(item) if isinstance(item, str) else item for item in inputs], pointer)


def faults(kind, *args, **options):
    with pytest.raises(kind) as caught:
        parts(*args, **options)
    return caught.value.code, [fault.pointer for fault in caught.value.faults]


def test_branches_that_read_alike_share_the_tokens(monkeypatch):
    calls = []
    encode = Tokenizer.encode

    def counted(self, texts, *, placed):
        calls.append(len(texts))
        return encode(self, texts, placed=placed)

    monkeypatch.setattr(Tokenizer, "encode", counted)
    found = parts(["i", "you"], branch(), branch(), branch(inserted=2))
    assert calls == [2, 2]
    assert found[0][0].prepared is found[0][1].prepared
    assert found[0][0].prepared is not found[0][2].prepared
    assert [len(row) for row in found] == [3, 3]


def test_each_task_prepares_its_own_inputs():
    first, second = parts(["i", "you"], branch("token-classification"), branch(), task_ids=(1, 0))
    assert [part.branch.task.name for part in (*first, *second)] == ["text-classification", "token-classification"]
    assert [part.prepared.item for part in (*first, *second)] == [Text("i"), Text("you")]


def test_every_input_at_fault_is_named_at_once():
    long = "i love it you hate it i"
    assert faults(Unprocessable, ["i", long, "you", long], branch()) == ("too_long", ["/inputs/1", "/inputs/3"])
    assert faults(Unprocessable, [long, ""], branch("fill-mask")) == ("too_long", ["/inputs/0", "/inputs/1"])
    item = Choices("i", ("it", long))
    assert faults(Unprocessable, [item], branch("multiple-choice")) == ("too_long", ["/inputs/0/choices/1"])


def test_what_the_backbone_can_not_read_is_named(monkeypatch):
    (you,) = TOKENIZER.ids("you")
    monkeypatch.setattr(Tokenizer, "fault", lambda self, row: "odd" if you in row.input_ids else None)
    assert faults(Unprocessable, ["i", "you"], branch()) == ("unreadable_input", ["/inputs/1"])


def test_a_fault_of_a_parameter_is_told_once():
    code, pointers = faults(Unprocessable, ["[MASK]", "[MASK] i"], branch("fill-mask"), targets=("unbelievable",))
    assert (code, pointers) == ("unknown_target", ["/parameters/targets/0"])


def test_rows_are_capped_with_every_branch_counted():
    assert len(parts(["i", "you"], branch(), branch(), rows=4)) == 2
    assert faults(TooLarge, ["i", "you"], branch(), branch(), rows=3) == ("too_many_rows", ["/inputs/1"])


def test_wrong_forms_are_named_before_anything_is_tokenized():
    selection = Selection(((branch(), branch("token-classification")),), ())
    with pytest.raises(Unprocessable) as caught:
        check_forms([Text("i"), Question("i", "it"), Text("i", "you")], selection, pointer)
    assert [fault.pointer for fault in caught.value.faults] == ["/inputs/1", "/inputs/2/text_pair"]
    check_forms([Text("i")], selection, pointer)


def test_one_refusal_for_all_keeps_the_first_ones_kind():
    errors = {3: TooLarge("c", code="x", pointer="/a"), 1: Unprocessable("b", faults=(Fault("/parameters/p", "d"),))}
    made = refusal(errors, pointer)
    assert (type(made), made.detail) == (Unprocessable, "b")
    assert [fault.pointer for fault in made.faults] == ["/parameters/p", "/inputs/3/a"]
    assert refusal({0: Unprocessable("b")}, pointer).faults == (Fault("/inputs/0", "b"),)


@pytest.mark.parametrize(
    ("composition", "fits"),
    [
        ({"split": ["a", "b"], "splits": [3, 4]}, 7),
        (["l", {"split": ["a", ["b", "c"]], "splits": [1, 1]}], 2),
        ({"split": ["a", {"split": ["b", "c"], "splits": [2, 3]}], "splits": [4, 9]}, 9),  # 4, then at most 5
        ([{"average": [["a", {"split": ["b", "c"], "splits": [1, 2]}], "d"]}], 3),
        ([{"split": ["a", "b"], "splits": [9, 9]}, {"split": ["a", "b"], "splits": [2, 2]}], 4),
    ],
    ids=str,
)
def test_a_split_holds_as_many_tokens_as_its_lengths_add_up_to(composition, fits):
    block = parse(composition).block
    assert split_fault(block, fits) is None
    assert split_fault(block, fits + 1) is not None
    assert split_fault(parse(["a", "b"]).block, 10_000) is None


def test_a_split_too_short_says_row_tokens_and_sum():
    short = parse({"split": ["a", "b"], "splits": [2, 2]})
    with pytest.raises(Unprocessable) as caught:
        parts(["i", "i love"], branch(composition=short, inserted=1), branch())
    (fault,) = caught.value.faults
    assert (caught.value.code, fault.pointer) == ("too_long", "/inputs/1")
    assert fault.detail == "row 1: 5 tokens, but the lengths of the split add up to 4: make them longer"


def test_targets_are_read_once_for_all_inputs(monkeypatch):
    calls = []
    ids = Tokenizer.ids
    monkeypatch.setattr(Tokenizer, "ids", lambda self, token: (calls.append(token), ids(self, token))[1])
    found = parts(["[MASK]", "[MASK] i", "i [MASK]"], branch("fill-mask"), branch("fill-mask"), targets=("it", "you"))
    assert calls == ["it", "you"]
    assert {part.reductions[0].chosen for row in found for part in row} == {(6, 7)}


def test_an_answer_that_would_hold_too_much_is_refused_with_the_parameter():
    masks = ["[MASK] [MASK] [MASK]", "[MASK]"]
    assert len(parts(masks, branch("fill-mask"), items=20)) == 2
    assert faults(TooLarge, masks, branch("fill-mask"), items=19) == ("too_many_items", ["/parameters/top_k"])
    twice = [branch("fill-mask")] * 2
    assert faults(TooLarge, masks, *twice, items=39) == ("too_many_items", ["/parameters/top_k"])
    targets = {"targets": ("it", "you"), "items": 7}
    assert faults(TooLarge, masks, branch("fill-mask"), **targets) == ("too_many_items", ["/parameters/targets"])
    assert faults(TooLarge, ["i", "you"], branch(), items=3) == ("too_many_items", ["/parameters/top_k"])
    assert faults(TooLarge, ["i", "you"], branch("token-classification"), items=1) == ("too_many_items", ["/inputs"])
