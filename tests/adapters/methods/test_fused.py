import pytest
import torch

from adapters.architectures.sites import Address
from adapters.errors import Misfit
from adapters.methods.base import BaseMap, Fitting
from adapters.methods.fold import fitting_of
from adapters.methods.fused import at_parts
from adapters.methods.table import METHODS
from adapters.weights import Folded
from tests.adapters import builders
from tests.adapters.builders import HIDDEN
from tests.adapters.methods.operands import stored

WHOLE = Address(1, "attn_qkv")
PARTS = [Address(1, site) for site in ("attn_q", "attn_k", "attn_v")]
PLAIN = fitting_of(builders.profile("modernbert"))


def base(address):
    generator = torch.Generator().manual_seed(7 + [*PARTS].index(address))
    return BaseMap(torch.randn(HIDDEN, HIDDEN, generator=generator), torch.randn(HIDDEN, generator=generator))


FITTING = Fitting(PLAIN.geometry, PLAIN.architecture, base)


def tensors_of(method, said, seed=1):
    shapes = METHODS[method].shapes({"sites": {str(WHOLE): said}}, FITTING)
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def test_the_frozen_map_of_the_whole_is_that_of_its_parts():
    assert FITTING.widths("attn_qkv") == (HIDDEN, 3 * HIDDEN)
    assert torch.equal(FITTING.weight(WHOLE), torch.cat([base(part).weight for part in PARTS]))
    assert torch.equal(FITTING.bias(WHOLE), torch.cat([base(part).bias for part in PARTS]))


@pytest.mark.parametrize("dora", ["none", "peft"])
def test_a_low_rank_change_of_the_whole_is_one_of_every_part(dora):
    said = {"rank": 3, "scaling": 2.0, "dora": dora}
    tensors = tensors_of("lora", said)
    folded = METHODS["lora"].fold({"sites": {str(WHOLE): said}}, tensors, FITTING)
    assert list(folded) == PARTS
    change = 2 * tensors[f"{WHOLE}/lora_B"] @ tensors[f"{WHOLE}/lora_A"]
    made = torch.cat([block.tensors["up"] @ block.tensors["down"] for block in folded.values()])
    assert torch.allclose(made, change, atol=1e-5)
    if dora == "peft":
        gain = tensors[f"{WHOLE}/magnitude"] / (FITTING.weight(WHOLE) + change).norm(dim=1)
        assert torch.allclose(torch.cat([block.tensors["gain"] for block in folded.values()]), gain, atol=1e-5)


def test_factors_of_outputs_are_split_and_those_of_inputs_repeated():
    for at, size in (("output", 3 * HIDDEN), ("input", HIDDEN)):
        said = {"at": at, "scaling": 1.0}
        tensors = tensors_of("ia3", said)
        folded = METHODS["ia3"].fold({"sites": {str(WHOLE): said}}, tensors, FITTING)
        scale = tensors[f"{WHOLE}/scale"]
        assert scale.shape == (size,)
        want = scale.split(HIDDEN) if at == "output" else [scale] * 3
        assert all(torch.equal(block.tensors["scale"], own) for block, own in zip(folded.values(), want, strict=True))


def test_full_changes_are_split_by_rows():
    delta = torch.randn(3 * HIDDEN, HIDDEN)
    folded = at_parts(WHOLE, Folded("delta", "turned", {"delta": delta}), FITTING)
    assert torch.equal(torch.cat([block.tensors["delta"] for block in folded.values()]), delta)
    assert {block.variant for block in folded.values()} == {"turned"}


def test_a_single_map_stays_where_it_is():
    block = Folded("delta", None, {"delta": torch.zeros(HIDDEN, HIDDEN)})
    assert at_parts(Address(0, "attn_out"), block, FITTING) == {Address(0, "attn_out"): block}


def test_a_group_that_crosses_two_parts_is_refused():
    vectors = {name: torch.zeros(3 * HIDDEN) for name in ("first", "second")}
    assert len(at_parts(WHOLE, Folded("road", 8, vectors), FITTING)) == 3
    with pytest.raises(Misfit, match="must lie in one of the parts"):
        at_parts(WHOLE, Folded("road", 12, vectors), FITTING)


def test_gates_and_maps_adapted_twice_are_refused():
    said = {"rank": 2, "scaling": 1.0, "gated": True}
    with pytest.raises(Misfit, match="has no gate"):
        METHODS["lora"].fold({"sites": {str(WHOLE): said}}, tensors_of("lora", said), FITTING)
    with pytest.raises(Misfit, match="1/attn_k is adapted twice"):
        METHODS["delta"].shapes({"sites": {str(WHOLE): {}, "1/attn_k": {}}}, FITTING)


def test_families_without_the_wider_map_have_no_such_site():
    with pytest.raises(Misfit, match="no place for it at 1/attn_qkv"):
        stored(METHODS["delta"], {"sites": {str(WHOLE): {}}}, 1)
