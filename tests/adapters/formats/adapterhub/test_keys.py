import pytest
import torch

from adapters.formats.adapterhub.keys import Key, modern, pair, take


def test_one_tensor_is_one_native_tensor_and_a_column_a_vector():
    x = torch.randn(4, 1)
    assert torch.equal(Key("k", ("n",), column=True).unpack(x)["n"], x[:, 0])
    assert torch.equal(Key("k", ("n",), column=True).pack({"n": x[:, 0]}), x)
    wide = torch.randn(4, 2)
    assert Key("k", ("n",), column=True).unpack(wide)["n"] is wide  # the check of shapes names it


def test_blocks_are_divided_and_joined_in_order():
    key = Key("k", ("q", "v"), column=True)
    x = torch.randn(6, 1)
    found = key.unpack(x)
    assert torch.equal(found["v"], x[3:, 0])
    assert torch.equal(key.pack(found), x)
    for bad in (torch.randn(5), torch.zeros(0), torch.tensor(1.0)):
        with pytest.raises(ValueError, match="one block for each of 2 maps"):
            key.unpack(bad)


def test_taking_finds_every_fault_and_what_is_left():
    a, b = torch.zeros(2), torch.ones(2)
    stored = {"bert.x": a, "bert.pool.x": b, "bert.y": torch.zeros(3), "z.bias": a}
    table = [Key("x", ("nx",), ("pool.x",)), Key("y", ("n1", "n2")), Key("w", ("nw",)), *pair("m", "lost")]
    taken = take(stored, table, "bert")
    assert taken.missing == ("w", "lost.weight", "lost.bias")
    assert len(taken.faults) == 2
    assert "copies of x differ" in taken.faults[0]
    assert taken.rest == {"z.bias": "z.bias"}
    assert taken.tensors["nx"] is a


def test_a_key_with_and_without_the_prefix_is_a_fault():
    taken = take({"bert.x": torch.zeros(1), "x": torch.zeros(1)}, [Key("x", ("n",))], "bert")
    assert "with and without" in taken.faults[0]


def test_names_of_the_first_versions_are_renamed_by_whole_segments():
    assert modern("encoder.layer.0.output.layer_text_task_adapters.a.adapter_up.bias") == (
        "encoder.layer.0.output.adapters.a.adapter_up.bias"
    )
    assert modern("invertible_lang_adapters.a.F.0.bias") == "invertible_adapters.a.F.0.bias"
    assert modern("x.my_layer_text_task_adapters.y") == "x.my_layer_text_task_adapters.y"
