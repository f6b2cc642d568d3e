import pytest

from adapters.formats.adapterhub.prefix_tuning import write
from tests.adapters.formats.adapterhub.reading import host, keys, read, reasons
from tests.adapters.formats.folders import prefix


def test_a_prefix_names_its_layers_and_a_flat_one_has_no_bottleneck():
    (part,) = read(prefix(leave_out=[0]))
    assert part.config == {"length": 3, "flat": False, "bottleneck": 5, "layers": [1]}
    (part,) = read(prefix(flat=True, non_linearity="relu"))
    assert part.config == {"length": 3, "flat": True, "bottleneck": None, "layers": [0, 1]}


def test_gates_and_other_activations_are_said():
    (part,) = read(prefix(use_gating=True, non_linearity="ReLU"))
    assert (part.config["gating"], part.config["non_linearity"]) == ("shared", "relu")
    assert read(prefix(use_gating=True, shared_gating=False))[0].config["gating"] == "separate"
    assert "gating" not in read(prefix(use_gating=False, shared_gating=False))[0].config


def test_a_prefix_is_one_tensor_with_a_copy_in_every_layer():
    key = keys(prefix(flat=True, leave_out=[1]))["model/attn_kv/control_trans"]
    assert key.stored == "prefix_tuning.prefix_tunings.a.self_prefix.control_trans"
    pool = "attention.self.prefix_tuning.pool.prefix_tunings.a.self_prefix.control_trans"
    assert key.copies == (f"encoder.layer.0.{pool}", f"encoder.layer.1.{pool}")
    key = keys(prefix(), "distilbert")["model/attn_kv/wte.weight"]
    assert key.stored == "prefix_tuning.prefix_tunings.a.self.wte.weight"
    assert key.copies[0] == "transformer.layer.0.attention.prefix_tuning.pool.prefix_tunings.a.self.wte.weight"


def test_every_layer_with_a_prefix_has_its_own_gate():
    found = keys(prefix(use_gating=True, leave_out=[0]))
    assert found["1/attn_kv/gate.bias"].stored == "encoder.layer.1.attention.self.prefix_tuning.prefix_gates.a.bias"
    assert "0/attn_kv/gate.bias" not in found


@pytest.mark.parametrize("config", [prefix(leave_out=[1]), prefix(flat=True), prefix(use_gating=True)])
def test_a_configuration_made_from_a_part_reads_as_the_same_part(config):
    (part,) = read(config)
    assert read(write(part.config, host())) == (part,)


def test_a_family_without_prefixes_is_refused():
    assert "no prefix tuning for 'modernbert'" in reasons(prefix(), "modernbert")[0]
