import numpy as np
import pytest
import torch

from adapters.architectures.sites import Address
from adapters.errors import Misfit
from adapters.methods.base import Fitting
from adapters.methods.tuners.adamss import ADAMSS
from adapters.methods.tuners.clusters import clustered
from tests.adapters.methods.tuners.formulas import FITTING, SITE, WEIGHT, at, block, config, delta, stored

OUT, WIDE = WEIGHT.shape
BIAS = FITTING.bias(Address.parse(SITE))


def labels(count, directions, *, biased, seed=4):
    """Every output's cluster, by torch's own sketch of the leading vectors."""
    matrix = torch.cat([WEIGHT, BIAS[:, None]], dim=1) if biased else WEIGHT
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        vectors, _, _ = torch.svd_lowrank(matrix, q=directions, niter=2)
    return clustered(vectors.numpy(), count, 10, 123456789)


def said(rank=2, directions=6, *, biased=True, seed=4):
    sizes = np.bincount(labels(3, directions, biased=biased, seed=seed)).tolist()
    groups = [[size, min(size, rank)] for size in sizes]
    return {"directions": directions, "columns": WIDE + biased, "groups": groups, "seed": seed}


@pytest.mark.parametrize(("rank", "method"), [(1, "lora"), (2, "lora"), (9, "lora")])
@pytest.mark.parametrize("biased", [True, False])
def test_every_output_has_the_product_of_its_cluster(rank, method, biased):
    own = said(rank, biased=biased)
    tensors = stored(ADAMSS, own)
    held, folded = at(tensors, SITE), block(ADAMSS, own, tensors)
    assert folded.method == method
    assert folded.tensors["down"].shape[0] == 8  # the ranks together, or the directions where these are fewer
    seen = [0, 0, 0]
    for output, group in enumerate(labels(3, 6, biased=biased)):
        want = held[f"B.{group}"][seen[group]] @ held[f"A.{group}"] @ held["newB"]
        seen[group] += 1
        assert torch.allclose(delta(folded)[output], want[:WIDE], atol=1e-5)
        if biased:
            assert torch.allclose(folded.tensors["bias"][output], want[WIDE], atol=1e-5)
    assert ("bias" in folded.tensors) == biased


def test_another_backbone_groups_otherwise_and_is_refused():
    own = said()
    own["groups"] = [[own["groups"][0][0] + 1, 1], [own["groups"][1][0] - 1, 1], own["groups"][2]]
    with pytest.raises(Misfit, match="this backbone's map groups its outputs as"):
        block(ADAMSS, own, stored(ADAMSS, own))


def test_without_the_backbone_s_weights_the_fold_has_its_size():
    bare, own = Fitting(FITTING.geometry, FITTING.architecture), said()
    folded = ADAMSS.fold(config(own), stored(ADAMSS, own), bare)[Address.parse(SITE)]
    assert folded.tensors["up"].shape == (OUT, 8)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"groups": [[OUT - 1, 1]]}, "do not make up the map's"),
        ({"columns": WIDE + 2}, "are neither the map's"),
        ({"directions": OUT + 1}, "directions are more than a matrix"),
        ({"groups": []}, "must be a list of"),
        ({"groups": [[OUT, 1, 1]]}, "must be a list of"),
        ({"groups": [[OUT, 0]]}, "must be a list of"),
        ({"groups": "all"}, "must be a list of"),
    ],
)
def test_groups_that_are_none_are_refused(changes, reason):
    with pytest.raises(Misfit, match=reason):
        ADAMSS.shapes(config({**said(), **changes}), FITTING)
