import pytest
import torch
from torch.nn import functional

from adapters.losses import IGNORED, loss
from adapters.manifest import HeadSpec

GENERATOR = torch.Generator().manual_seed(0)


def spec(problem: str) -> HeadSpec:
    return HeadSpec("any", 1, None, True, "tokens", (), problem)


def scores(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=GENERATOR)


def test_classes_are_compared_by_cross_entropy():
    rows, goals = scores(4, 3), torch.tensor([0, 2, 1, 2])
    assert torch.equal(loss(spec("single_label"), list(rows), list(goals)), functional.cross_entropy(rows, goals))


def test_numbers_are_compared_by_their_squared_difference():
    rows = [torch.tensor([1.0]), torch.tensor([3.0])]
    assert float(loss(spec("regression"), rows, [torch.tensor(2.0), torch.tensor(0)])) == 5.0


def test_sets_of_labels_are_compared_label_by_label():
    rows, goals = scores(2, 3), torch.tensor([[1, 0, 1], [0, 0, 1]])
    expected = functional.binary_cross_entropy_with_logits(rows, goals.float())
    assert torch.equal(loss(spec("multi_label"), list(rows), list(goals)), expected)


@pytest.mark.parametrize("problem", ["token", "vocabulary"])
def test_every_counted_token_of_all_rows_weighs_the_same(problem):
    rows = [scores(4, 3), scores(2, 3)]
    goals = [torch.tensor([0, IGNORED, 2, IGNORED]), torch.tensor([1, IGNORED])]
    expected = functional.cross_entropy(torch.stack([rows[0][0], rows[0][2], rows[1][0]]), torch.tensor([0, 2, 1]))
    assert torch.allclose(loss(spec(problem), rows, goals), expected)


def test_a_span_is_half_of_both_ends_over_the_tokens_of_the_row_alone():
    rows = [scores(5, 2), scores(3, 2)]
    goals = [torch.tensor([1, 4]), torch.tensor([0, 2])]
    single = [functional.cross_entropy(row.T, goal) for row, goal in zip(rows, goals, strict=True)]
    assert torch.allclose(loss(spec("span"), rows, goals), sum(single) / 2)


def test_an_end_of_a_span_outside_of_its_row_does_not_count():
    rows = [scores(5, 2), scores(3, 2)]
    goals = [torch.tensor([1, 4]), torch.tensor([3, -1])]
    assert torch.allclose(loss(spec("span"), rows, goals), functional.cross_entropy(rows[0].T, goals[0]))


def test_choices_are_compared_within_their_question():
    rows = scores(6, 1)
    expected = functional.cross_entropy(rows.view(2, 3), torch.tensor([2, 0]))
    assert torch.equal(loss(spec("choice"), list(rows), [torch.tensor(2), torch.tensor(0)]), expected)


def test_a_tree_is_the_sum_of_arcs_over_the_rows_own_words_and_relations_of_the_right_arcs():
    rows = [scores(3, 4, 3), scores(2, 3, 3)]
    goals = [torch.tensor([[0, 1, -1], [1, 0, -1]]), torch.tensor([[2, 0], [0, 1]])]
    words = [(rows[0][0], 0, 1), (rows[0][1], 1, 0), (rows[1][0], 2, 0), (rows[1][1], 0, 1)]
    arcs = [functional.cross_entropy(word[:, 0], torch.tensor(head)) for word, head, _ in words]
    kinds = [functional.cross_entropy(word[head, 1:], torch.tensor(kind)) for word, head, kind in words]
    expected = (sum(arcs) + sum(kinds)) / 4
    assert torch.allclose(loss(spec("tree"), rows, goals), expected)


def test_nothing_to_count_is_no_loss_and_no_nan_in_the_gradients():
    row = scores(4, 3).requires_grad_()
    value = loss(spec("token"), [row], [torch.full((4,), IGNORED)])
    torch.autograd.backward(value)
    assert float(value.detach()) == 0.0
    assert bool((row.grad == 0).all())
