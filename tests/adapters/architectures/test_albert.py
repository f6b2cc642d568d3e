import pytest
import torch

from adapters.architectures.albert import ALBERT
from adapters.architectures.geometry import read_geometry
from adapters.architectures.profile import read_profile
from adapters.architectures.sites import Address
from adapters.backbone import Backbone
from adapters.batch.rows import Row
from tests.adapters import builders


def test_layers_are_modules_and_lie_in_groups():
    record = ALBERT.grouped(2)
    assert record.layer_path(3) == "encoder.albert_layer_groups.1.albert_layers.1"
    assert record.linear_path(Address(2, "attn_q")) == "encoder.albert_layer_groups.1.albert_layers.0.attention.query"
    assert ALBERT.layer_path(1) == "encoder.albert_layer_groups.1.albert_layers.0"


@pytest.mark.parametrize(
    ("settings", "layers"),
    [
        ({"num_hidden_layers": 3, "num_hidden_groups": 1}, 1),
        ({"num_hidden_layers": 4, "num_hidden_groups": 2, "inner_group_num": 2}, 4),
        ({"num_hidden_layers": 2, "num_hidden_groups": 1, "inner_group_num": 3}, 3),
    ],
)
def test_rows_are_exact_however_often_modules_are_shared(settings, layers):
    path = builders.variant("albert", **settings)
    geometry = read_profile(path).geometry
    assert geometry.layers == layers
    assert set(geometry.architecture.paths(layers)) <= {name for name, _ in Backbone.load(path).model.named_modules()}
    assert builders.apart_from_plain(path) < 1e-5


def test_an_adapter_acts_in_every_run_of_its_module():
    calls, backbone = [], builders.backbone("albert")
    resident = builders.in_one_arena([builders.adapter("albert", [builders.lora()])])[0]
    hook = backbone.model.get_submodule(ALBERT.linear_path(Address(0, "attn_q"))).register_forward_hook(
        lambda module, args, out: calls.append(out[0, :4] - module.forward(args[0])[0, :4])
    )
    row = Row((resident,), None, None, builders.ids(1, 4))
    with_gradients = backbone.forward(backbone.plan([row], [False])).hidden
    hook.remove()
    assert torch.allclose(backbone.run([row], ["hidden_state"])[0], with_gradients, atol=1e-5)
    assert len(calls) == 2
    assert all(float(change.abs().max()) > 1e-2 for change in calls)


def test_sizes_that_a_configuration_leaves_out_are_the_familys():
    config = builders.config_json("albert")
    for member in ("embedding_size", "num_hidden_groups", "inner_group_num"):
        config.pop(member)
    geometry = read_geometry(config)
    assert (geometry.embedding_size, geometry.layers, geometry.inner_layers) == (128, 1, 1)
