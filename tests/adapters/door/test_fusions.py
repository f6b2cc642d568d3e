import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import set_seed

from adapters.door.blocks import Fuse, Stack
from adapters.errors import InvalidName, Misfit
from adapters.formats.labels import UNNAMED
from adapters.model import AdapterModel
from tests.adapters import builders

IDS = torch.from_numpy(builders.ids(1, 12)).view(2, 6)


@pytest.fixture
def model() -> AdapterModel:
    set_seed(0)
    made = AdapterModel.from_pretrained(builders.folder("bert"))
    for i, name in enumerate("ab"):
        made.keep(made.adapters, name, builders.package("bert", [builders.PARTS["seq_bn"]], seed=i))
    made.keep(made.adapters, "l", builders.package("bert", [builders.PARTS["lora_qv"]]))
    return made


def test_a_fusion_acts_where_its_adapters_do(model):
    assert model.add_adapter_fusion(Fuse("a", "b")) == "a,b"
    held = model.fusions["a,b"].manifest
    assert set(held.parts[0].config["sites"]) == {"0/ffn_junction", "1/ffn_junction"}
    assert held.children == ("a", "b")
    assert model.fusions["a,b"].trains
    fused = model(IDS, adapter_names=Fuse("a", "b")).last_hidden_state
    assert not torch.allclose(fused, model(IDS, adapter_names="a").last_hidden_state, atol=1e-3)


def test_configurations_and_names(model):
    model.add_adapter_fusion(["a", "b"], "static", name="mine", set_active=True)
    assert not model.fusions["mine"].manifest.parts[0].config["value"]
    assert model.active_adapters == Fuse("a", "b", name="mine")
    model.add_adapter_fusion("a,b", query_before_ln=True)
    assert model.fusions["a,b"].manifest.parts[0].config["query_before_ln"]
    model.add_adapter_fusion(Fuse("a", Stack("l", "b")), overwrite_ok=True)
    assert model.fusions["a,b"].manifest.children == ("a", "b")


def test_what_can_not_be_fused_is_refused(model):
    with pytest.raises(Misfit, match="no bottlenecks"):
        model.add_adapter_fusion(["l", "l"])
    with pytest.raises(Misfit, match="'magic' is no configuration"):
        model.add_adapter_fusion(["a", "b"], "magic")
    with pytest.raises(Misfit, match="speed"):
        model.add_adapter_fusion(["a", "b"], speed=True)
    with pytest.raises(ValueError, match="no adapter 'x'"):
        model.add_adapter_fusion(["a", "x"])
    with pytest.raises(TypeError, match="a Fuse or a list"):
        model.add_adapter_fusion({"stack": ["a"]})
    model.add_adapter_fusion(["a", "b"])
    with pytest.raises(ValueError, match="already"):
        model.add_adapter_fusion(["a", "b"])


@pytest.mark.parametrize("how", ["a,b", ["a", "b"], Fuse("a", "b")])
def test_a_fusion_is_saved_and_loaded_in_adapterhubs_layout(model, how, tmp_path):
    model.add_adapter_fusion(["a", "b"])
    before = model.fusions["a,b"].package()
    model.save_adapter_fusion(tmp_path / "f", how)
    assert (tmp_path / "f" / "adapter_fusion_config.json").is_file()
    model.delete_adapter_fusion(how)
    assert model.load_adapter_fusion(tmp_path / "f", set_active=True) == "a,b"
    after = model.fusions["a,b"].package()
    assert not model.fusions["a,b"].trains
    assert after.manifest.children == before.manifest.children
    assert all(torch.equal(tensor, after.tensors[name]) for name, tensor in before.tensors.items())
    assert list(model.active_adapters.children) == list(Fuse("a", "b").children)


def test_a_fusion_loaded_under_another_name_is_used_and_saved_by_that(model, tmp_path):
    model.add_adapter_fusion(["a", "b"])
    model.save_adapter_fusion(tmp_path / "f", ["a", "b"])
    assert model.load_adapter_fusion(tmp_path / "f", load_as="g") == "g"
    one = model(IDS, adapter_names=Fuse("a", "b", name="g")).last_hidden_state
    assert torch.equal(one, model(IDS, adapter_names=Fuse("a", "b")).last_hidden_state)
    model.save_adapter_fusion(tmp_path / "g", "g")
    assert model.load_adapter_fusion(tmp_path / "g") == "g"


def test_dictionaries_say_what_differs_from_the_dynamic_configuration(model):
    model.add_adapter_fusion(["a", "b"], {"value": False, "residual_before": True}, "mine", True, True)
    config = model.fusions["mine"].manifest.parts[0].config
    assert (config["query"], config["value"], config["residual_before"]) == (True, False, True)
    with pytest.raises(Misfit, match="temperature"):
        model.add_adapter_fusion(["a", "b"], {"temperature": True})
    with pytest.raises(Misfit, match="and dictionaries"):
        model.add_adapter_fusion(["a", "b"], ["query"])
    with pytest.raises(TypeError, match="skip some when it is active"):
        model.add_adapter_fusion({"fuse": ["a", "b"], "skip_layers": [0]})


def test_a_fusion_is_active_with_its_adapters_or_not_loaded_at_all(model, tmp_path):
    model.add_adapter_fusion(["a", "b"])
    model.save_adapter_fusion(tmp_path / "f", ["a", "b"])
    bare = AdapterModel.from_pretrained(builders.folder("bert"))
    with pytest.raises(ValueError, match="no adapter 'a'"):
        bare.load_adapter_fusion(tmp_path / "f", set_active=True)
    assert len(bare.fusions) == 0
    bare.load_adapter_fusion(tmp_path / "f")
    assert list(bare.fusions) == ["a,b"]


@pytest.mark.parametrize(("with_head", "name"), [(True, "a,b"), ("tags", "tags")])
def test_a_head_travels_in_a_fusions_folder(model, with_head, name, tmp_path):
    model.add_adapter_fusion(["a", "b"])
    model.add_tagging_head(name)
    model.save_adapter_fusion(tmp_path / "f", ["a", "b"], with_head=with_head)
    bare = AdapterModel.from_pretrained(builders.folder("bert"))
    bare.load_adapter_fusion(tmp_path / "f", with_head=False)
    assert len(bare.heads) == 0
    bare.load_adapter_fusion(tmp_path / "f")
    assert bare.active_head == name
    one, two = (made.heads[name].package().tensors for made in (model, bare))
    assert all(torch.equal(tensor, two[key]) for key, tensor in one.items())


def test_all_fusions_are_saved_in_folders_of_their_names(model, tmp_path):
    model.add_adapter_fusion(["a", "b"])
    model.add_adapter_fusion(["a", "b"], name="mine")
    model.save_all_adapter_fusions(tmp_path / "all")
    assert model.load_adapter_fusion(tmp_path / "all" / "mine", "again") == "again"
    assert (tmp_path / "all" / "a,b" / "adapter_fusion_config.json").is_file()
    model.add_adapter_fusion(["a", "b"], name="../out")
    with pytest.raises(InvalidName, match="names no place inside"):
        model.save_all_adapter_fusions(tmp_path / "all")
    model.save_adapter_fusion(tmp_path / "out", "../out")
    with pytest.raises(InvalidName, match="names no place inside"):
        model.load_adapter_fusion(tmp_path / "out")
    with pytest.raises(TypeError, match="takes no custom_weights_loaders"):
        model.load_adapter_fusion(tmp_path / "out", "x", ["loader"])


def test_deleting_an_active_fusion_leaves_nothing_active(model, tmp_path):
    model.add_adapter_fusion(["a", "b"], set_active=True)
    model.delete_adapter_fusion(["a", "b"])
    assert model.active_adapters is None
    model.delete_adapter_fusion(["a", "b"])  # as in AdapterHub, what is not here needs no deleting
    model.save_adapter(tmp_path / "a", "a")
    with pytest.raises(Misfit, match="no fusion, but a package of kind 'adapter'"):
        model.load_adapter_fusion(tmp_path / "a")


def test_what_the_reader_says_of_a_fusion_and_its_head_is_told(model, tmp_path):
    model.add_adapter_fusion(["a", "b"])
    model.add_tagging_head("a,b")
    model.save_adapter_fusion(tmp_path / "f", ["a", "b"], with_head=True)
    held = load_file(tmp_path / "f" / "model_adapter_fusion.safetensors")
    held |= {name.replace(".a,b.", ".a,b,c."): tensor.clone() for name, tensor in held.items()}
    save_file(held, tmp_path / "f" / "model_adapter_fusion.safetensors")
    config = json.loads((tmp_path / "f" / "head_config.json").read_text())
    config["config"]["label2id"] = None
    (tmp_path / "f" / "head_config.json").write_text(json.dumps(config))
    with pytest.warns(UserWarning) as caught:
        model.load_adapter_fusion(tmp_path / "f")
    assert ["other fusions" in str(caught[0].message), UNNAMED in str(caught[1].message)] == [True, True]
    with pytest.warns(UserWarning, match="other fusions") as caught:
        model.load_adapter_fusion(tmp_path / "f", with_head=False)
    assert len(caught) == 1
