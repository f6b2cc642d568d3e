import pytest
import torch
from transformers import set_seed

from adapters.door.blocks import Fuse, Parallel, Stack
from adapters.door.owner import folder_of
from adapters.errors import InvalidComposition, Misfit
from adapters.model import AdapterModel
from tests.adapters import builders


@pytest.fixture
def model() -> AdapterModel:
    set_seed(0)
    made = AdapterModel.from_pretrained(builders.folder("bert"))
    for name in ("a", "b"):
        made.add_adapter(name)
    return made


def test_the_backbone_is_in_no_state_and_no_parameter(model):
    names = {name.split(".")[0] for name in model.state_dict()}
    assert names == {"adapters"}
    assert sum(p.numel() for p in model.parameters()) < sum(p.numel() for p in model.backbone.model.parameters()) / 10
    assert not any(parameter.requires_grad for parameter in model.backbone.model.parameters())


def test_training_mode_does_not_reach_the_backbone(model):
    model.train()
    assert model.training
    assert not model.backbone.model.training


def test_the_configuration_is_a_copy_that_trainers_may_write_into(model):
    before = model.backbone.model.config.pad_token_id
    model.config.pad_token_id = 7
    assert model.backbone.model.config.pad_token_id == before
    assert model.config.hidden_size == builders.HIDDEN


def test_what_is_active_is_checked_and_brings_its_head(model):
    model.add_classification_head("b")
    model.add_classification_head("other")
    assert model.active_adapters is None
    model.set_active_adapters(["a", "b"])
    assert model.active_adapters == Stack("a", "b")
    assert model.active_head == "b"
    model.active_head = "other"
    model.active_adapters = "a"
    assert model.active_head == "other"
    model.set_active_adapters(None)
    assert model.active_adapters is None
    with pytest.raises(ValueError, match="no adapter 'c'; there are: a, b"):
        model.set_active_adapters(Parallel("a", "c"))
    with pytest.raises(ValueError, match="no fusion 'a,b'; there are: none"):
        model.set_active_adapters(Fuse("a", "b"))
    with pytest.raises(ValueError, match="no head 'x'"):
        model.active_head = "x"


def test_skipped_layers_hold_for_the_active_composition(model):
    noisy(model, "a")
    ids = torch.from_numpy(builders.ids(1, 6))[None]
    all_layers = model(ids, adapter_names="a").last_hidden_state
    model.set_active_adapters("a", skip_layers=[0, 1])
    assert torch.allclose(model(ids).last_hidden_state, model(ids, adapter_names=[]).last_hidden_state)
    model.set_active_adapters({"stack": ["a"], "skip_layers": [1]})
    half = model(ids).last_hidden_state
    assert not torch.allclose(half, all_layers)
    model.set_active_adapters("a")
    assert torch.equal(model(ids).last_hidden_state, all_layers)


@pytest.mark.parametrize("layers", [[99], [2], [-1], "x", 1, [0.0]])
def test_layers_that_are_not_there_can_not_be_skipped(model, layers):
    model.set_active_adapters("a")
    with pytest.raises(InvalidComposition, match="skip_layers"):
        model.set_active_adapters("b", skip_layers=layers)
    with pytest.raises(InvalidComposition, match="skip_layers"):
        model(torch.from_numpy(builders.ids(1, 6))[None], adapter_names={"stack": ["a"], "skip_layers": layers})
    assert model.active_adapters == Stack("a").children[0]
    with pytest.raises(InvalidComposition, match="give skip_layers once"):
        model.set_active_adapters({"stack": ["a"], "skip_layers": [0]}, skip_layers=[1])


def test_a_package_for_another_backbone_is_refused_with_every_reason(model):
    wrong = builders.package("roberta", [builders.PARTS["seq_bn"]])
    with pytest.raises(Misfit, match="model type"):
        model.keep(model.adapters, "c", wrong)
    assert "c" not in model.adapters


def test_new_parameters_follow_torchs_seed():
    made = []
    for seed in (1, 1, 2):
        set_seed(seed)
        model = AdapterModel.from_pretrained(builders.folder("bert"))
        model.add_adapter("a", "lora")
        made.append(torch.cat([parameter.flatten() for parameter in model.parameters()]))
    assert torch.equal(made[0], made[1])
    assert not torch.equal(made[0], made[2])


def test_the_dtype_is_the_backbones_for_good(model):
    with pytest.raises(TypeError, match=r"stays torch.float32: give from_pretrained the dtype"):
        model.half()
    assert model.to("cpu") is model
    wide = AdapterModel.from_pretrained(builders.folder("bert"), dtype=torch.float64)
    wide.add_adapter("a")
    ids = torch.from_numpy(builders.ids(1, 6))[None]
    assert wide(ids, adapter_names="a").last_hidden_state.dtype == torch.float64


def test_folders_are_made_for_what_is_saved(tmp_path):
    assert folder_of(tmp_path / "a" / "b").is_dir()
    (tmp_path / "file").write_text("")
    with pytest.raises(FileExistsError):
        folder_of(tmp_path / "file")


def noisy(model: AdapterModel, name: str) -> None:
    with torch.no_grad():
        for i, parameter in enumerate(model.adapters[name].parameters()):
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(i)) * 0.3)


def test_what_is_put_in_a_head_s_place_is_not_frozen_as_it_was(model):
    for _ in range(2):
        model.add_tagging_head("h", overwrite_ok=True)
        model.train_adapter([])
        assert model.heads["h"].trains
        model.freeze_head("h")
