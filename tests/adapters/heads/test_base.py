import pytest
import torch

from adapters.heads.table import HEADS, head_of, head_reasons, head_shapes
from tests.adapters.heads.made import HIDDEN, SPECS, heads, run, states


def test_every_kind_is_among_the_examples():
    assert {spec.type for spec in SPECS.values()} == set(HEADS)


@pytest.mark.parametrize("name", SPECS)
def test_good_heads_have_no_reasons_and_name_their_tensors_as_packages_do(name):
    spec = SPECS[name]
    assert head_reasons(spec, HIDDEN, has_pooler=True) == []
    shapes = head_shapes(spec, HIDDEN)
    assert shapes
    assert all(full.startswith("head/") and full.count("/") == 2 for full in shapes)


@pytest.mark.parametrize("name", SPECS)
def test_a_row_s_answer_is_its_own_whatever_runs_beside_it(name):
    spec = SPECS[name]
    held = heads(spec, 3)
    tokens = head_of(spec).places == "tokens"
    lengths, owners = ([5, 4, 7, 3] if tokens else [1, 1, 1, 1]), [0, 0, 2, 1]
    starts = [(1, 2, 4), (0, 4), (2, 3, 5, 7), (1, 2)] if spec.type == "dependency_parsing" else None
    x = states(lengths)
    together = run(spec, held, lengths, owners, x, starts)
    at = 0
    for i, (length, owner) in enumerate(zip(lengths, owners, strict=True)):
        alone = run(spec, [held[owner]], [length], [0], x[at : at + length], None if starts is None else [starts[i]])
        assert together[i].shape == alone[0].shape
        assert torch.allclose(together[i], alone[0], atol=1e-5)
        assert torch.isfinite(together[i]).all()
        at += length


@pytest.mark.parametrize("name", SPECS)
def test_gradients_reach_every_tensor(name):
    spec = SPECS[name]
    (held,) = heads(spec, 1)
    x = states([6]) if head_of(spec).places == "tokens" else states([1])
    leaves = {key: tensor.double().requires_grad_() for key, tensor in held.items()}

    def answer(*values):
        made = dict(zip(leaves, values, strict=True))
        return run(spec, [made], [x.shape[0]], [0], x.double(), [(0, 1, 3, 6)])[0]

    assert torch.autograd.gradcheck(answer, tuple(leaves.values()), eps=1e-6, atol=1e-4)
