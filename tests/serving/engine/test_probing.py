"""Rows of which the answer is known to exist tell whether an engine still computes."""

import pytest
import torch

from serving.engine.forward import BackboneForward
from serving.engine.probing import computes
from serving.engine.rehearsal import rows_of
from tests.adapters import builders


class Scripted:
    """A `Forward` that raises what it was given."""

    def __init__(self, error):
        self.error, self.seen = error, []

    def run(self, rows):
        self.seen.append(rows)
        raise self.error


@pytest.fixture(scope="module")
def rehearsal():
    return rows_of(builders.profile("bert").geometry)[:1]


def test_a_backbone_that_answers_computes(rehearsal):
    assert computes(BackboneForward(builders.backbone("bert")), rehearsal)


@pytest.mark.parametrize(
    "error", [torch.AcceleratorError("an illegal memory access was encountered"), RuntimeError("CUDNN"), KeyError("x")]
)
def test_one_that_can_not_even_run_what_it_ran_before_does_not(rehearsal, error):
    forward = Scripted(error)
    assert not computes(forward, rehearsal)
    assert forward.seen == [rehearsal]


def test_a_device_that_is_full_is_not_broken(rehearsal):
    assert computes(Scripted(torch.OutOfMemoryError("tried to allocate 2 MiB")), rehearsal)
