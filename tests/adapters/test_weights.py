import pytest
import torch

from adapters.architectures.sites import Address
from adapters.weights import ALIGN, Folded, alone, finite, pack
from tests.adapters import builders
from tests.adapters.builders import HEADS, PARTS

MANIFEST = builders.package("bert", [PARTS["lora_qv"]]).manifest
QUERY = Address(0, "attn_q")


def test_every_parameter_starts_at_a_multiple_and_can_be_viewed_in_place():
    folded = {QUERY: (Folded("lora", None, {"down": torch.randn(3, 5), "up": torch.randn(5, 3)}),)}
    adapter = pack(MANIFEST, folded, None, {"0.weight": torch.ones(2, 2)}, None, torch.float32)
    spans = adapter.blocks[QUERY][0].spans
    assert [span.offset for span in spans.values()] == [0, 1]
    assert adapter.head_spans["0.weight"].offset == 2
    assert adapter.flat.numel() == 3 * ALIGN
    resident = alone(adapter)
    for name, tensor in folded[QUERY][0].tensors.items():
        assert torch.equal(resident.view(spans[name]), tensor)
    assert resident.view(spans["up"]).data_ptr() == adapter.flat.data_ptr() + ALIGN * 4


def test_a_package_without_tensors_takes_no_room():
    assert pack(MANIFEST, {}, None, {}, None, torch.float32).nbytes == 0


def test_kin_are_blocks_of_one_method_variant_and_shape_wherever_they_lie():
    one = builders.adapter("bert", [PARTS["seq_bn"]]).blocks
    other = builders.adapter("bert", [PARTS["lora_qv"], PARTS["seq_bn"]]).blocks
    gated = builders.adapter("bert", [PARTS["gated_bn"]]).blocks
    at = Address(1, "ffn_junction")
    assert one[at][0].kin == other[at][0].kin
    assert one[at][0].kin != gated[at][0].kin
    assert one[at][0].spans != other[at][0].spans


def test_a_resident_reads_its_own_slot_of_the_arena():
    first, second = builders.in_one_arena(
        [builders.adapter("bert", [PARTS["seq_bn"]], HEADS["one_layer"], seed) for seed in (1, 2)], slack=2
    )
    span = first.adapter.head_spans["0.weight"]
    assert torch.equal(first.view(span), alone(first.adapter).view(span))
    assert not torch.equal(first.view(span), second.view(span))


def test_adapters_of_one_signature_hold_every_parameter_at_the_same_place():
    one, other = (builders.adapter("bert", [PARTS["seq_bn"], PARTS["lora_qv"]], seed=seed) for seed in (1, 2))
    turned = builders.adapter("bert", [PARTS["lora_qv"], PARTS["seq_bn"]])
    assert one.signature is other.signature
    assert one.blocks == other.blocks
    assert one.signature is not turned.signature


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_one_value_that_is_not_finite_is_seen_wherever_it_lies(dtype, bad):
    good = torch.full((3, 67), torch.finfo(dtype).max, dtype=dtype)
    assert finite(good)
    assert finite(-good)
    for place in (0, 1, 64, 100, good.numel() - 1):
        spoilt = good.clone()
        spoilt.view(-1)[place] = bad
        assert not finite(spoilt)
        assert not finite(spoilt.t())


def test_a_tensor_without_values_holds_none_that_is_not_finite():
    assert finite(torch.zeros(0))
