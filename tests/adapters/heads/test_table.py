from dataclasses import replace

import pytest
import torch

from adapters.errors import Misfit
from adapters.heads.table import HEADS, head_of, head_reasons, head_shapes, initialise_head
from adapters.manifest import HEAD_TYPES
from tests.adapters.heads.made import HIDDEN, SPECS


def test_the_table_serves_exactly_what_a_manifest_may_say():
    assert tuple(HEADS) == HEAD_TYPES
    assert all(head_of(spec).type == spec.type for spec in SPECS.values())


def test_an_unknown_type_is_refused_naming_those_there_are():
    wrong = replace(SPECS["qa"], type="translation")
    for ask in (lambda: head_shapes(wrong, HIDDEN), lambda: head_reasons(wrong, HIDDEN, has_pooler=True)):
        with pytest.raises(Misfit, match="'translation' is not served; served are classification, "):
            ask()


@pytest.mark.parametrize("name", SPECS)
def test_fresh_heads_have_every_tensor_and_start_small(name):
    spec = SPECS[name]
    fresh = initialise_head(spec, HIDDEN, torch.Generator().manual_seed(3))
    again = initialise_head(spec, HIDDEN, torch.Generator().manual_seed(3))
    assert {key: tuple(tensor.shape) for key, tensor in fresh.items()} == head_shapes(spec, HIDDEN)
    assert all(torch.equal(tensor, again[key]) for key, tensor in fresh.items())
    for key, tensor in fresh.items():
        if key.endswith("norm.weight"):
            assert torch.equal(tensor, torch.ones_like(tensor))
        elif key.endswith("bias"):
            assert not tensor.any()
        else:
            assert 0 < float(tensor.std()) < 0.05
