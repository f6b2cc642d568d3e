import torch

from adapters.batch.rows import Row
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
