from dataclasses import replace

import torch

from adapters.batch.rows import Row
from adapters.methods.fold import fold
from adapters.methods.tuners.beft import BEFT
from tests.adapters import builders
from tests.adapters.batch.arrangements import add, average
from tests.adapters.methods.tuners.formulas import SITE, WEIGHT, at, block, stored


def test_a_vector_is_added_to_the_output_beside_the_frozen_bias():
    tensors = stored(BEFT, {})
    made = block(BEFT, {}, tensors)
    assert made.method == "biases"
    assert torch.equal(made.tensors["shift"], at(tensors, SITE)["bias"][0])
    assert made.tensors["shift"].shape == WEIGHT.shape[:1]


def test_vectors_of_several_adapters_add_up_as_in_peft():
    """`peft.tuners.beft.layer.Linear.forward` (0.21) sums those of all active adapters."""
    packages = [builders.package("bert", [builders.PARTS["beft"]], seed=seed) for seed in (1, 2)]
    vectors = [package.tensors for package in packages]
    both = {name: tensor + vectors[1][name] for name, tensor in vectors[0].items()}
    quarter = {name: tensor / 4 for name, tensor in both.items()}  # AdapterHub takes the mean of what it has weighted
    profile = builders.profile("bert")
    made = [*packages, *(replace(packages[0], tensors=tensors) for tensors in (both, quarter))]
    a, b, summed, mean = builders.in_one_arena([fold(package, profile, torch.float32) for package in made])
    forks = add((a,), (b,)), average((a,), (b,), weights=[1, 1])
    rows = [Row(members, None, None, builders.ids(3, 7)) for members in ((forks[0],), (summed,), (forks[1],), (mean,))]
    states = builders.backbone("bert").run(rows, ["hidden_state"] * 4)
    torch.testing.assert_close(states[0], states[1], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(states[2], states[3], atol=1e-5, rtol=1e-4)
    assert not torch.allclose(states[0], states[2], atol=1e-2)
