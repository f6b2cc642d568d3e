import pytest
import torch

from adapters.door import inputs, outputs
from adapters.door.outputs import Goals, Group
from adapters.errors import InvalidRow
from adapters.manifest import HeadSpec
from adapters.passes import Answers

GIVEN = inputs.read(torch.tensor([[5, 6, 7, 0], [0, 0, 8, 9]]), torch.tensor([[1, 1, 1, 0], [0, 0, 1, 1]]), None)
GENERATOR = torch.Generator().manual_seed(0)
NOTHING = Goals()
HIDDEN = (torch.randn(3, 2, generator=GENERATOR), torch.randn(2, 2, generator=GENERATOR))


def spec(problem: str, **more) -> HeadSpec:
    return HeadSpec("any", 1, None, True, "tokens", (), problem, **more)


def of(problem: str, logits, goals: Goals = NOTHING, *, given=GIVEN, states=False, **more):
    group = Group(spec(problem, **more), tuple(range(len(logits))), tuple(range(len(logits))))
    return outputs.output(group, Answers(tuple(logits), (HIDDEN,)), given, goals, states=states)


def test_without_a_head_there_are_hidden_states():
    group = Group(None, (0, 1), (0, 1))
    made = outputs.output(group, Answers((), (HIDDEN, HIDDEN)), GIVEN, Goals(), states=True)
    assert torch.equal(made.last_hidden_state[1, 2:], HIDDEN[1])
    assert not made.last_hidden_state[0, 3].any()
    assert len(made.hidden_states) == 2


def test_pooled_answers_are_stacked_with_their_loss():
    made = of("single_label", [torch.tensor([2.0, 0.0]), torch.tensor([0.0, 2.0])], Goals(torch.tensor([[0], [1]])))
    assert made.logits.shape == (2, 2)
    assert float(made.loss) == pytest.approx(0.1269, abs=1e-4)
    assert made.hidden_states is None
    assert of("single_label", [torch.zeros(2)] * 2, states=True).hidden_states[0].shape == (2, 4, 2)


def test_token_answers_stand_where_their_tokens_do():
    made = of("token", [torch.ones(3, 5), torch.ones(2, 5)], Goals(torch.zeros(2, 4, dtype=torch.long)))
    assert made.logits[:, :, 0].tolist() == [[1, 1, 1, 0], [0, 0, 1, 1]]
    assert float(made.loss) == pytest.approx(torch.tensor(5.0).log())
    assert of("vocabulary", [torch.ones(3, 5), torch.ones(2, 5)]).loss is None


def test_no_answer_lies_in_the_padding_and_places_count_it():
    logits = [torch.tensor([[-1.0, 0], [-2, 0], [-3, 0]]), torch.tensor([[-5.0, 0.0], [-4.0, 1.0]])]
    made = of("span", logits, Goals(start_positions=torch.tensor([0, 3]), end_positions=torch.tensor([2, 2])))
    assert made.start_logits.argmax(-1).tolist() == [0, 3]
    assert bool((made.start_logits.softmax(-1)[0, 3] == 0).all())
    flat = [torch.log_softmax(row, 0) for row in logits]
    expected = -(flat[0][0, 0] + flat[0][2, 1] + flat[1][1, 0] + flat[1][0, 1]) / 4
    assert float(made.loss) == pytest.approx(float(expected))


def test_choices_are_regrouped_by_question():
    given = inputs.read(torch.ones(2, 3, 4, dtype=torch.long), None, None)
    logits = [torch.tensor([float(i)]) for i in range(6)]
    made = of("choice", logits, Goals(torch.tensor([2, 0])), given=given)
    assert made.logits.tolist() == [[0, 1, 2], [3, 4, 5]]
    flat = of("choice", logits[:4], choices=2)
    assert flat.logits.shape == (2, 2)
    with pytest.raises(InvalidRow, match="questions, choices, length"):
        of("choice", logits[:3], choices=2)


def test_trees_are_padded_to_the_longest_and_split_into_arcs_and_relations():
    answers = [torch.ones(2, 3, 4), torch.full((3, 4, 4), 2.0)]
    goals = Goals(labels_arcs=torch.tensor([[0, 1, -1], [2, 0, 1]]), labels_rels=torch.zeros(2, 3, dtype=torch.long))
    made = of("tree", answers, goals)
    assert made.arc_preds.shape == (2, 3, 4)
    assert made.rel_preds.shape == (2, 3, 4, 3)
    assert made.arc_preds[0].tolist() == [[1, 1, 1, 0], [1, 1, 1, 0], [0, 0, 0, 0]]
    expected = (2 * torch.tensor(3.0).log() + 3 * torch.tensor(4.0).log()) / 5 + torch.tensor(3.0).log()
    assert float(made.loss) == pytest.approx(float(expected))


@pytest.mark.parametrize(
    ("problem", "goals", "reason"),
    [
        ("span", Goals(start_positions=torch.zeros(2)), "both start_positions and end_positions"),
        ("tree", Goals(labels_rels=torch.zeros(2)), "both labels_arcs and labels_rels"),
    ],
)
def test_half_of_a_goal_is_refused(problem, goals, reason):
    with pytest.raises(InvalidRow, match=reason):
        of(problem, [torch.zeros(3, 4, 2), torch.zeros(2, 3, 2)], goals)


TWO = [torch.zeros(2)] * 2
TOKENS = [torch.zeros(3, 2), torch.zeros(2, 2)]


@pytest.mark.parametrize(
    ("problem", "logits", "labels", "reason"),
    [
        ("single_label", TWO, [0, 1, 0, 1], "an entry for each of the 2 rows, not \\[4\\]"),
        ("single_label", TWO, [0], "each of the 2 rows"),
        ("single_label", TWO, 1, "each of the 2 rows"),
        ("single_label", TWO, [0, 2], "labels have 2, but the head knows 0 to 1"),
        ("single_label", TWO, [0, -1], "labels have -1"),
        ("single_label", TWO, [0.0, 1.0], "must be integers"),
        ("single_label", TWO, [[0, 1], [1, 0]], "each row takes one"),
        ("multi_label", TWO, [[1.0], [0.0]], "each row takes 2 of 0 and 1"),
        ("multi_label", TWO, [1, 0], "each row takes 2 of 0 and 1"),
        ("regression", TWO, [1.0, 2.0, 3.0], "each of the 2 rows"),
        ("token", TOKENS, [[0, 1, 2, 0], [0, 0, 1, 1]], "labels have 2"),
        ("token", TOKENS, [[0.0, 1, 1, 0], [0, 0, 1, 1]], "must be integers"),
        ("token", TOKENS, [0, 1], "labels are"),
        ("vocabulary", TOKENS, [[0, -1, 1, 0], [0, 0, 1, 1]], "labels have -1"),
    ],
)
def test_labels_that_do_not_fit_the_head_are_refused(problem, logits, labels, reason):
    with pytest.raises(InvalidRow, match=reason):
        of(problem, logits, Goals(torch.tensor(labels)))


def test_labels_that_do_not_count_are_no_fault():
    assert float(of("single_label", TWO, Goals(torch.tensor([0, -100]))).loss) == pytest.approx(0.6931, abs=1e-4)
    padded = torch.tensor([[0, 1, -100, 77], [77, 77, 1, 0]])  # padding is not the row's own
    assert float(of("token", TOKENS, Goals(padded)).loss) == pytest.approx(0.6931, abs=1e-4)
    small = Goals(torch.tensor([0, 1], dtype=torch.int32))
    assert float(of("single_label", TWO, small).loss) == pytest.approx(0.6931, abs=1e-4)


def test_choices_places_and_trees_that_are_not_there_are_refused():
    given = inputs.read(torch.ones(2, 3, 4, dtype=torch.long), None, None)
    logits = [torch.tensor([float(i)]) for i in range(6)]
    with pytest.raises(InvalidRow, match="labels have 3, but the head knows 0 to 2"):
        of("choice", logits, Goals(torch.tensor([3, 0])), given=given)
    with pytest.raises(InvalidRow, match="each of the 2 rows"):
        of("choice", logits, Goals(torch.tensor([1] * 6)), given=given)
    for side in (torch.tensor([0, 1, 2]), torch.tensor([0.0, 1.0])):
        with pytest.raises(InvalidRow, match="start_positions must be"):
            of("span", TOKENS, Goals(start_positions=side, end_positions=torch.tensor([0, 1])))
    answers, fine = [torch.ones(2, 3, 4), torch.ones(2, 3, 4)], torch.zeros(2, 2, dtype=torch.long)
    for name, value in (("labels_arcs", 3), ("labels_rels", 3), ("labels_rels", -1)):
        goals = {"labels_arcs": fine, "labels_rels": fine, name: torch.tensor([[0, 0], [value, 0]])}
        with pytest.raises(InvalidRow, match=f"{name} have {value}, but the head knows 0 to 2"):
            of("tree", answers, Goals(**goals))
    with pytest.raises(InvalidRow, match="one number per word: a row has 2"):
        of("tree", answers, Goals(labels_arcs=fine[:, :1], labels_rels=fine))


@pytest.mark.parametrize(
    ("problems", "goals", "reason"),
    [
        ((None,), Goals(torch.tensor([0])), "labels mean nothing .*: add a head"),
        (("span",), Goals(torch.tensor([0])), "labels mean nothing .*: give it end_positions, start_positions"),
        (("token",), Goals(end_positions=torch.tensor([0])), "end_positions mean nothing .*: give it labels"),
        (("tree", "span"), Goals(torch.tensor([0])), "give it end_positions, labels_arcs"),
    ],
)
def test_goals_that_no_head_looks_at_are_refused(problems, goals, reason):
    groups = [Group(None if problem is None else spec(problem), (0,), (0,)) for problem in problems]
    with pytest.raises(InvalidRow, match=reason):
        outputs.check(groups, goals)
    outputs.check(groups, NOTHING)
    outputs.check([*groups, Group(spec("token"), (1,), (1,)), Group(spec("span"), (1,), (1,))], goals)


def test_several_outputs_are_one_with_the_sum_of_their_losses():
    one = of("single_label", [torch.zeros(2)] * 2, Goals(torch.tensor([0, 1])))
    assert outputs.together([one]) is one
    whole = outputs.together([one, one])
    assert whole.head_outputs == (one, one)
    assert float(whole.loss) == pytest.approx(2 * float(one.loss))
    assert outputs.together([one, of("single_label", [torch.zeros(2)] * 2)]).loss is None
