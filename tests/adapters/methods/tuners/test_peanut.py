import pytest
import torch

from adapters.errors import Misfit
from adapters.methods.tuners.peanut import PEANUT
from tests.adapters.methods.tuners.formulas import SITE, UP, at, block, close, delta, stored, weight

SAID = {"rank": 3, "activation": "tanh", "scaling": 0.5}


@pytest.mark.parametrize("site", [SITE, UP])
@pytest.mark.parametrize("depth", [0, 1, 2])
def test_a_network_reads_every_column_of_the_frozen_map(site, depth):
    said = {**SAID, "depth": depth}
    tensors = stored(PEANUT, said, site)
    held, columns = at(tensors, site), []
    for column in weight(site).unbind(1):
        states = [torch.tanh(held["A"] @ column)]
        for i in range(depth):
            states.append(torch.tanh(held[f"encoder.{i}"] @ states[-1]))
        state = states.pop()
        for i in range(depth):
            state = torch.tanh(held[f"decoder.{i}"] @ state) + states.pop()
        columns.append(0.5 * held["B"] @ state)
    assert close(delta(block(PEANUT, said, tensors, site)), torch.stack(columns, dim=1))


@pytest.mark.parametrize("name", ["tangent", None])
def test_what_is_no_activation_is_refused(name):
    with pytest.raises(Misfit, match="is no activation"):
        stored(PEANUT, {**SAID, "depth": 0, "activation": name})
