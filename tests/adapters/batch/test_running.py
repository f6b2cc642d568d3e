import torch

from adapters.architectures.sites import Address
from adapters.batch.rows import Row
from adapters.batch.running import running_pass
from tests.adapters import builders

CROSS = Address(1, "cross_kv")


def test_an_encoder_has_one_packing_and_an_encoder_decoder_three():
    for family, stacks in (("bert", False), ("gpt2", False), ("t5", True)):
        backbone = builders.backbone(family)
        plan = backbone.plan([Row((), None, None, builders.ids(1, 4))], [False])
        found = running_pass(plan, backbone.profile.geometry.architecture, ())
        assert found.packing.causal == (family == "gpt2")
        assert (found.decoder is not None, found.crossing is not None) == (stacks, stacks)
        assert not stacks or found.decoder.causal


def test_a_prefix_of_the_cross_attention_is_gated_by_the_decoders_own_tokens():
    backbone = builders.backbone("t5")
    adapter = builders.adapter("t5", [builders.CROSS_PARTS["prefix_cross"]])
    (resident,) = builders.in_one_arena([adapter])
    rows = [
        Row((resident,), None, None, builders.ids(1, 4), decoder_ids=builders.ids(2, 3)),
        Row((), None, None, builders.ids(1, 4), decoder_ids=builders.ids(2, 2)),
    ]
    plan = backbone.plan(rows, [False, False])
    found = running_pass(plan, backbone.profile.geometry.architecture, ())
    prefixes = found.prefixes(CROSS, torch.randn(5, builders.HIDDEN))
    assert {row: tuple(prefix.shape) for row, prefix in prefixes.items()} == {plan.order.index(0): (2, 2, 48)}
