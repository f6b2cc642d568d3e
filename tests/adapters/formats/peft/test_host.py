import pytest

from adapters.architectures.families import ARCHITECTURES
from adapters.architectures.sites import Address
from adapters.errors import Misfit
from adapters.formats.peft.host import Host, host_of

BERT = ARCHITECTURES["bert"]


def test_keys_tell_whether_there_was_a_head_around_the_model():
    assert host_of(["base_model.model.bert.encoder.layer.0.output.dense.lora_A.weight"], BERT, 2).prefixed
    assert not host_of(["base_model.model.encoder.layer.0.output.dense.lora_A.weight"], BERT, 2).prefixed


def test_paths_are_those_of_the_model_that_was_saved():
    assert Host(BERT, 1, True).whole_path(Address(0, "ffn_out")) == "bert.encoder.layer.0.output.dense"
    assert Host(BERT, 1, False).modules()["pooler.dense"] == Address(None, "pooler")


def test_a_part_of_a_wider_map_has_no_path():
    with pytest.raises(Misfit, match="as a whole"):
        Host(ARCHITECTURES["modernbert"], 1, False).whole_path(Address(0, "attn_q"))
