import torch

from adapters.architectures.sites import Address
from adapters.methods.base import at, prefixed


def test_names_are_prefixed_with_their_address_and_found_again():
    address = Address(1, "attn_q")
    names = prefixed(address, {"lora_A": (2, 3)})
    assert names == {"1/attn_q/lora_A": (2, 3)}
    tensors = {"1/attn_q/lora_A": torch.zeros(1), "11/attn_q/lora_A": torch.ones(1)}
    assert list(at(tensors, address)) == ["lora_A"]
