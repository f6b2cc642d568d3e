"""Which stored output is whose, and which share of an answer it is compared with."""

import pytest
import torch

from tests.conformance.arrangement import arrange
from tests.conformance.references import Expected, comparable, references

IDS = torch.zeros(2, 5)


def found(tensors, composition="a", inputs=2, words=0, of_rows=False, ids=IDS, **more):
    raw = {"composition": composition, "head": None} | more
    return [
        {e.name: e for e in references({"input.input_ids": ids, **tensors}, row, words, of_rows=of_rows, rounding={})}
        for row in arrange(raw, inputs)
    ]


def counted(*shape):
    return torch.arange(torch.tensor(shape).prod()).reshape(shape).float()


def test_rows_take_their_own_line():
    logits, hidden = counted(2, 3), counted(2, 5, 4)
    for i, held in enumerate(found({"logits": logits, "hidden_state": hidden})):
        assert torch.equal(held["logits"].values, logits[i])
        assert torch.equal(held["hidden_state"].values, hidden[i])
        assert held["hidden_state"].want == "hidden_state"


def test_rows_with_compositions_of_their_own_have_names_of_their_own():
    stored = {"row.0.logits": counted(1, 3), "row.1.logits": counted(1, 3) + 9, "row.1.start_logits": counted(1, 5)}
    own = [{"composition": "a", "head": "a"}, {"composition": "b", "head": "b"}]
    first, second = found(stored, rows=own, of_rows=True)
    assert first.keys() == {"row.0.logits"}
    assert second.keys() == {"row.1.logits", "row.1.start_logits"}
    assert float(second["row.1.logits"].values[0]) == 9
    bare = [{"composition": None, "head": None}, {"composition": "b", "head": "b"}]
    assert found(stored, rows=bare, of_rows=True)[0] == {}


def test_branches_follow_one_another_in_states_and_have_outputs_of_their_own():
    hidden = counted(4, 5, 4)
    stored = {"hidden_state": hidden, "head_output.0.logits": counted(2, 3), "head_output.1.logits": counted(2, 6)}
    rows = found(stored, {"parallel": ["a", "b"]})
    assert torch.equal(rows[3]["hidden_state"].values, hidden[3])
    assert torch.equal(rows[3]["head_output.1.logits"].values, counted(2, 6)[1])
    assert "head_output.1.logits" not in rows[0]


def test_the_scores_of_choices_are_one_per_row():
    rows = found({"logits": counted(2, 3)}, inputs=6, ids=torch.zeros(2, 3, 5))
    assert [held["logits"].values.tolist() for held in rows] == [[float(i)] for i in range(6)]


def test_spans_and_trees_are_compared_with_their_share_of_the_answer():
    stored = {
        "start_logits": counted(2, 5),
        "end_logits": counted(2, 5),
        "arc_preds": counted(2, 5, 6),
        "rel_preds": counted(2, 5, 6, 4),
    }
    held = found(stored, words=2)[0]
    assert held["start_logits"].values.shape == (5, 1)
    assert held["arc_preds"].values.shape == (2, 3, 1)
    assert held["rel_preds"].values.shape == (2, 3, 4)
    spans, tree = counted(5, 2), counted(2, 3, 5)
    assert torch.equal(held["start_logits"].taken(spans), spans[:, :1])
    assert torch.equal(held["end_logits"].taken(spans), spans[:, 1:])
    assert torch.equal(held["arc_preds"].taken(tree), tree[..., :1])
    assert torch.equal(held["rel_preds"].taken(tree), tree[..., 1:])
    assert all(one.want == "logits" for one in held.values())


@pytest.mark.parametrize("name", ["generated", "cross_attentions", "row.0.generated"])
def test_outputs_that_no_row_has_are_known_as_such(name):
    assert not comparable(name)
    assert comparable("head_output.3.logits")
    assert Expected("x", "logits", counted(2)).taken(counted(2)).shape == (2,)
