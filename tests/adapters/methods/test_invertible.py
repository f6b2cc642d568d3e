from dataclasses import replace

import pytest
import torch

from adapters.batch.rows import Row
from adapters.errors import Misfit
from adapters.methods.fold import fitting_of
from adapters.methods.invertible import ADDRESS, INVERTIBLE, reference
from adapters.weights import Adapter, Resident
from tests.adapters import builders
from tests.adapters.builders import HIDDEN, PARTS
from tests.adapters.methods import operands


def test_equals_the_reference_of_every_row():
    blocks = operands.folded(PARTS["invertible"], ADDRESS, (1, 2, 3))
    x = operands.tokens(HIDDEN, 1)
    out = INVERTIBLE.embed_out(x, operands.operand(blocks))
    for got, row, segment in zip(operands.rows(out), operands.rows(x), operands.OWNER, strict=True):
        assert torch.allclose(got, reference(blocks[segment], row), atol=1e-5)


def test_inverting_gives_back_what_every_row_had():
    blocks = operands.folded(PARTS["invertible"], ADDRESS, (1, 2, 3))
    x, operand = operands.tokens(HIDDEN, 1), operands.operand(blocks)
    changed = INVERTIBLE.embed_out(x, operand)
    assert torch.allclose(INVERTIBLE.invert(changed, operand), x, atol=1e-5)
    assert torch.allclose(INVERTIBLE.embed_out(INVERTIBLE.invert(x, operand), operand), x, atol=1e-5)
    assert not torch.allclose(changed, x, atol=0.1)


@pytest.mark.parametrize(
    ("settings", "reason"), [({"kind": "glow"}, "glow"), ({"width": 0}, "width"), ({"non_linearity": "x"}, "'x'")]
)
def test_wrong_settings_are_refused(settings, reason):
    with pytest.raises(Misfit, match=reason):
        INVERTIBLE.shapes({**PARTS["invertible"].config, **settings}, fitting_of(builders.profile("bert")))


def test_an_odd_width_has_no_halves():
    fitting = fitting_of(builders.profile("bert"))
    odd = replace(fitting, geometry=replace(fitting.geometry, embedding_size=33))
    with pytest.raises(Misfit, match="odd"):
        INVERTIBLE.shapes(PARTS["invertible"].config, odd)


def test_only_the_bottom_member_of_a_stack_brings_it():
    backbone = builders.backbone("bert")
    lang, task = builders.in_one_arena(
        [
            builders.adapter("bert", [PARTS["seq_bn"], PARTS["invertible"]], seed=1),
            builders.adapter("bert", [PARTS["seq_bn"]], seed=2),
        ]
    )
    ids = builders.ids(1, 6)
    over, under = (
        backbone.run([Row(members, None, None, ids)], ["hidden_state"])[0] for members in ((task, lang), (lang, task))
    )
    assert not torch.allclose(over, under, atol=1e-3)
    held = lang.adapter.blocks
    assert ADDRESS in held
    stripped = Adapter(
        lang.adapter.manifest, {a: b for a, b in held.items() if a != ADDRESS}, None, {}, None, lang.adapter.flat
    )
    plain = Resident(stripped, lang.arena, lang.start, 0)
    assert torch.equal(over, backbone.run([Row((task, plain), None, None, ids)], ["hidden_state"])[0])
