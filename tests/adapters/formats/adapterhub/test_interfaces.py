from adapters.architectures.families import ARCHITECTURES
from adapters.formats.adapterhub.interfaces import INTERFACES, contradictions, interface


def test_only_families_that_adapterhub_reaches_through_one_have_a_file():
    assert interface("bert") is None
    found = interface("modernbert")
    assert found["model_type"] == "modernbert"
    assert contradictions(found, "modernbert") == []


def test_an_interface_names_the_modules_of_the_record():
    for model_type, said in INTERFACES.items():
        record = ARCHITECTURES[model_type]
        attention = said["layer_self_attn"]
        assert record.layer == f"{said['model_layers']}.{{layer}}"
        paths = set(record.linear_sites())
        maps = [said[f"attn_{name}_proj"] for name in ("q", "k", "v", "qkv", "o")]
        assert {f"{attention}.{name}" for name in maps if name} <= paths
        feed_forward = [
            record.linear[record.hub_feed_forward[f"{member}_lora"]] for member in ("intermediate", "output")
        ]
        assert [said["layer_intermediate_proj"], said["layer_output_proj"]] == feed_forward


def test_places_that_differ_are_named_and_members_that_do_not_matter_are_not():
    other = {"interface": {"attn_o_proj": "out", "adapter_methods": [], "base_model": "model"}}
    (reason,) = contradictions(other, "modernbert")
    assert "attn_o_proj='out'" in reason
    assert contradictions(other, "bert") == []
    assert contradictions({}, "modernbert") == []
