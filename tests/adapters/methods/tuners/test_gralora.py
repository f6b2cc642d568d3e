import pytest
import torch

from adapters.errors import Misfit
from adapters.methods.tuners.gralora import GRALORA
from tests.adapters.methods.tuners.formulas import SITE, UP, at, block, close, delta, stored, weight


@pytest.mark.parametrize("site", [SITE, UP])
@pytest.mark.parametrize(("blocks", "rank", "general"), [(2, 4, 0), (4, 4, 3), (1, 3, 0)])
def test_every_block_of_the_map_has_a_lora_of_its_own(site, blocks, rank, general):
    said = {"blocks": blocks, "rank": rank, "general_rank": general, "alpha": 8}
    tensors = stored(GRALORA, said, site)
    held, (out, wide), share = at(tensors, site), weight(site).shape, rank // blocks
    want = torch.zeros(out, wide)
    tall, broad = out // blocks, wide // blocks
    for j in range(blocks):
        for n in range(blocks):
            down = held["A"][n][:, j * share : (j + 1) * share]  # [in / k, share]
            up = held["B"][j][n * share : (n + 1) * share]  # [share, out / k]
            want[j * tall : (j + 1) * tall, n * broad : (n + 1) * broad] = (down @ up).T
    if general:
        want += held["B_general"] @ held["A_general"]
    assert close(delta(block(GRALORA, said, tensors, site)), want * 8 / (rank + general))


def test_the_rank_is_shared_out_among_the_blocks():
    with pytest.raises(Misfit, match="the number of blocks 3 does not divide the width 4"):
        stored(GRALORA, {"blocks": 3, "rank": 4, "general_rank": 0, "alpha": 8})
