import pytest
import torch

from adapters.errors import Misfit
from adapters.methods.lora import TURNED
from adapters.methods.tuners.miss import MISS
from tests.adapters.methods.tuners.formulas import SITE, UP, at, block, close, delta, stored, weight


@pytest.mark.parametrize("site", [SITE, UP])
@pytest.mark.parametrize(("kind", "rank", "mini"), [("plain", 4, 0), ("plain", 5, 0), ("mini", 3, 4)])
def test_shards_of_the_input_are_added_up_before_the_matrix(site, kind, rank, mini):
    said = {"rank": rank, "kind": kind, "mini_rank": mini}
    tensors = stored(MISS, said, site)
    matrix, (out, wide) = at(tensors, site)["block"], weight(site).shape
    want = torch.tensor([[float(matrix[i % rank, o % matrix.shape[1]]) for i in range(wide)] for o in range(out)])
    assert close(delta(block(MISS, said, tensors, site)), want)


def test_bat_multiplies_the_frozen_blocks():
    said = {"rank": 4, "kind": "bat", "mini_rank": 1}
    tensors = stored(MISS, said, UP)
    matrix, frozen = at(tensors, UP)["block"], weight(UP)
    want = torch.zeros_like(frozen)
    for i in range(frozen.shape[0] // 4):
        for j in range(frozen.shape[1] // 4):
            rows, columns = slice(4 * i, 4 * i + 4), slice(4 * j, 4 * j + 4)
            want[rows, columns] = frozen[rows, columns] @ matrix[i] + matrix[i]
    made = block(MISS, said, tensors, UP)
    assert made.variant == TURNED
    assert close(delta(made), want)


@pytest.mark.parametrize("said", [{"rank": 5, "kind": "bat"}, {"rank": 4, "kind": "mini", "mini_rank": 7}])
def test_what_does_not_divide_a_width_is_refused(said):
    with pytest.raises(Misfit, match="does not divide the width"):
        stored(MISS, said)
