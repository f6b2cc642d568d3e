import pytest
import torch

from adapters.methods.lora import TURNED
from adapters.methods.tuners.hra import HRA
from tests.adapters.methods.tuners.formulas import SITE, WEIGHT, at, block, close, delta, stored


@pytest.mark.parametrize("rank", [1, 2, 5])
def test_reflections_of_the_input_one_after_another_are_a_change_of_their_number_s_rank(rank):
    said = {"rank": rank, "orthogonal": False}
    tensors = stored(HRA, said)
    turned = WEIGHT
    for column in at(tensors, SITE)["u"].T:
        u = column / column.norm()
        turned = turned @ (torch.eye(len(u)) - 2 * torch.outer(u, u))
    made = block(HRA, said, tensors)
    assert (made.method, made.variant) == ("lora", TURNED)
    assert close(delta(made), turned - WEIGHT)


def test_orthogonal_columns_are_those_of_gram_and_schmidt():
    said = {"rank": 4, "orthogonal": True}
    tensors = stored(HRA, said)
    basis = torch.linalg.qr(at(tensors, SITE)["u"]).Q
    assert close(delta(block(HRA, said, tensors)), -2 * WEIGHT @ basis @ basis.T)
