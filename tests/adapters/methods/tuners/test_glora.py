import pytest
import torch

from adapters.architectures.sites import Address
from adapters.errors import Misfit
from adapters.methods.tuners.glora import GLORA
from tests.adapters.methods.tuners.formulas import FITTING, UP, at, block, delta, stored, weight

BIAS = FITTING.bias(Address.parse(UP))


def said(weights="lora", coupling="lora", biases="vector"):
    return {"rank": 2, "weights": weights, "coupling": coupling, "biases": biases}


def made(own):
    tensors = stored(GLORA, own, UP)
    tensors |= {name: torch.zeros_like(t) for name, t in tensors.items() if name.endswith(".zeros")}
    return at(tensors, UP), block(GLORA, own, tensors, UP)


def entry(held, letter, i, j=0):
    """One entry of what a letter stands for."""
    if f"{letter}.Xd" in held:
        return held[f"{letter}.Xd"][i] @ held[f"{letter}.Xu"][:, j]
    value = held.get(f"{letter}.X", torch.zeros(1)).flatten()
    return value[i if len(value) > 1 else 0]


@pytest.mark.parametrize("weights", ["lora", "vector", "constant"])
def test_the_map_is_scaled_and_shifted_entry_by_entry(weights):
    held, folded = made(said(weights))
    change, base = delta(folded), weight(UP)
    for i, j in ((0, 0), (3, 7), (11, 2)):
        want = base[i, j] * entry(held, "A", i, j) + entry(held, "B", i, j)
        assert torch.allclose(change[i, j], want, atol=1e-5)


@pytest.mark.parametrize("coupling", ["lora", "vector", "none"])
@pytest.mark.parametrize("biases", ["vector", "constant", "none"])
@pytest.mark.parametrize("weights", ["lora", "none"])
def test_the_bias_is_scaled_and_shifted_and_reads_the_map(weights, coupling, biases):
    held, folded = made(said(weights, coupling, biases))
    assert folded.method == ("biases" if weights == "none" else "delta")
    change = folded.tensors.get("shift")
    if weights == "lora" and coupling == biases == "none":
        assert change is None
        return
    column = torch.stack([entry(held, "C", j) for j in range(weight(UP).shape[1])])
    for i in (0, 5, 40):
        want = BIAS[i] * entry(held, "D", i) + entry(held, "E", i) + weight(UP)[i] @ column
        assert torch.allclose(change[i], want, atol=1e-5)


def test_numbers_where_there_is_nothing_are_refused():
    tensors = stored(GLORA, said(coupling="none"), UP)
    with pytest.raises(Misfit, match=r"C\.zeros must be zero"):
        block(GLORA, said(coupling="none"), tensors, UP)
