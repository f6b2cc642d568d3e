import pytest
import torch

from adapters.batch.workspace import Workspace, touching
from adapters.errors import InvalidRow
from adapters.weights import alone
from tests.adapters import builders
from tests.adapters.builders import PARTS

CPU = torch.device("cpu")


def residents(count):
    return builders.in_one_arena([builders.adapter("bert", [PARTS["lora_qv"]], seed=i) for i in range(count)])


def test_rows_of_one_adapter_that_touch_are_one_segment_whoever_names_them():
    a, b = residents(2)
    owned = [((((0, 2),), ((2, 3),)), (a, b)), ((((3, 4), (4, 6)), ((7, 9),)), (b, b))]
    held = Workspace(9, CPU).owners(owned)
    assert held.runs.bounds == ((0, 2), (2, 6), (7, 9))
    assert held.runs.rows == ((0, 2), (2, 3), (3, 4), (4, 6), (6, 8))
    assert held.starts.tolist() == [a.start, b.start, b.start]
    assert held.named.tolist() == [0, 0, 1]


def test_the_same_units_and_adapters_are_looked_through_once():
    a, b = residents(2)
    units, space = (((0, 2),), ((2, 3),)), Workspace(3, CPU)
    assert space.owners([(units, (a, b))]).runs is space.owners([(units, (b, a))]).runs
    pair = (a, b)
    assert space.owners([(units, pair)]) is space.owners([(units, pair)])
    assert space.owners([(units, (b, a))]).starts.tolist() == [b.start, a.start]


def test_adapters_of_two_arenas_have_no_owners():
    a, b = (alone(builders.adapter("bert", [PARTS["lora_qv"]], seed=i)) for i in range(2))
    with pytest.raises(InvalidRow, match="one arena"):
        Workspace(3, CPU).owners([((((0, 2),), ((2, 3),)), (a, b))])


def test_arms_lie_one_after_another():
    arms = Workspace(6, CPU).arms((((0, 2), (3, 4)), ((2, 3),)))
    assert arms.starts == (0, 2, 3, 4)
    assert arms.spread.tolist() == [0, 1, 3, 2]
    assert arms.workspace.total == 4


def test_touching_ranges_become_one():
    assert touching([(0, 2), (2, 5), (6, 7), (7, 8)]) == ((0, 5), (6, 8))
