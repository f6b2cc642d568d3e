import torch

from adapters.heads.tagging import TAGGING
from tests.adapters.heads.made import SPECS, heads, run, states


def test_every_token_has_one_score_per_label():
    spec = SPECS["tagging"]
    (held,) = heads(spec, 1)
    x = states([3, 5])
    first, second = run(spec, [held], [3, 5], [0, 0], x)
    hidden = torch.relu(x @ held["0.weight"].T + held["0.bias"])
    whole = hidden @ held["1.weight"].T + held["1.bias"]
    assert torch.allclose(first, whole[:3], atol=1e-5)
    assert torch.allclose(second, whole[3:], atol=1e-5)
    assert TAGGING.places == "tokens"
