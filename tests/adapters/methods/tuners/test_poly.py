import pytest
import torch

from adapters.errors import Misfit
from adapters.methods.tuners.poly import POLY
from tests.adapters.methods.tuners.formulas import SITE, UP, at, block, close, delta, stored, weight


@pytest.mark.parametrize("site", [SITE, UP])
@pytest.mark.parametrize("splits", [1, 2])
def test_every_split_of_the_channels_mixes_the_skills_by_its_own_shares(site, splits):
    said = {"rank": 3, "splits": splits, "skills": 4}
    tensors = stored(POLY, said, site)
    held, (out, wide) = at(tensors, site), weight(site).shape
    down, up = torch.zeros(3, wide), torch.zeros(out, 3)
    for split in range(splits):
        shares = held["logits"][0, 4 * split : 4 * split + 4].sigmoid()
        for skill, share in enumerate(shares / shares.sum()):
            size, tall = wide // splits, out // splits
            down[:, split * size : (split + 1) * size] += share * held["A"][split, skill].T
            up[split * tall : (split + 1) * tall] += share * held["B"][split, skill].T
    assert close(delta(block(POLY, said, tensors, site)), up @ down / 3)


@pytest.mark.parametrize("task", [0, 2])
def test_of_several_tasks_the_shares_are_those_of_one(task):
    said = {"rank": 2, "splits": 2, "skills": 3}
    tensors = stored(POLY, {**said, "tasks": 3, "task": task})
    alone = {name: t[task : task + 1] if name.endswith("logits") else t for name, t in tensors.items()}
    many = block(POLY, {**said, "tasks": 3, "task": task}, tensors)
    assert torch.equal(delta(many), delta(block(POLY, said, alone)))
    tensors[f"{SITE}/logits"][1] = float("nan")
    assert torch.equal(delta(block(POLY, {**said, "tasks": 3, "task": task}, tensors)), delta(many))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"tasks": 2, "task": 2}, "task must be below the number of tasks, 2, not 2"),
        ({"task": 1}, "task must be below the number of tasks, 1, not 1"),
        ({"tasks": 0}, "tasks must be a positive integer, not 0"),
        ({"tasks": 2, "task": -1}, "task must be an integer from 0 on, not -1"),
    ],
)
def test_a_task_that_is_not_there_is_refused(changes, reason):
    with pytest.raises(Misfit, match=reason):
        stored(POLY, {"rank": 2, "splits": 1, "skills": 1, **changes})


def test_splits_that_do_not_divide_the_channels_are_refused():
    with pytest.raises(Misfit, match="the number of splits 3 does not divide"):
        stored(POLY, {"rank": 2, "splits": 3, "skills": 1})
