from dataclasses import replace

import numpy as np

from adapters.backbone import Backbone
from adapters.batch.rows import Row
from adapters.formats import native
from adapters.methods.fold import fold
from adapters.weights import alone
from loadtests.peers.agreement import agreement
from loadtests.peers.chorus import opened
from loadtests.peers.contenders import LORA, METHODS, MIXED, PACKED


def test_every_row_has_the_adapter_of_its_number(work):
    runs = opened(work).runs
    assert runs.keys() == {(PACKED, None), *((MIXED, method) for method in METHODS)}
    backbone = Backbone.load(work.backbone)
    for method in METHODS:
        found = runs[MIXED, method].rows(runs[MIXED, method].go())
        for number, row in enumerate(work.rows):
            package = native.read((work.adapters / method / "native" / f"{number}.safetensors").read_bytes())
            held = alone(fold(package, backbone.profile, backbone.dtype))
            (own,) = backbone.run([Row((held,), None, None, np.array(row))], ["hidden_state"])
            np.testing.assert_allclose(found[number], own.numpy(), atol=2e-5)


def test_adapters_change_the_answers_by_more_than_any_tolerance(work):
    runs = opened(replace(work, methods=(LORA,))).runs
    bare, mixed = (np.concatenate(run.rows(run.go())) for run in (runs[PACKED, None], runs[MIXED, LORA]))
    assert not agreement(bare, mixed, "bf16").holds


def test_bfloat16_agrees_with_float32_within_its_tolerance(work):
    exact, rounded = (opened(replace(work, precision=precision)).runs[PACKED, None] for precision in ("fp32", "bf16"))
    reference = np.concatenate(exact.rows(exact.go()))
    found = np.concatenate(rounded.rows(rounded.go()))
    assert found.dtype == np.float32
    assert agreement(found, reference, "bf16").holds
    assert not agreement(found, reference, "fp32").holds
