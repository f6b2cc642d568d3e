import json
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import set_seed

from adapters.door import blocks
from adapters.door.adapters import joined, parted
from adapters.door.blocks import Fuse, Stack
from adapters.errors import InvalidName, Misfit
from adapters.formats import native, recognise
from adapters.formats.adapterhub.reft import UNSAID
from adapters.formats.labels import UNNAMED
from adapters.formats.peft import folder as peft
from adapters.manifest import PartSpec
from adapters.methods.presets import PRESETS
from adapters.model import AdapterModel
from adapters.weights import Package
from tests.adapters import builders

IDS = torch.from_numpy(builders.ids(1, 6))[None]


def fresh() -> AdapterModel:
    return AdapterModel.from_pretrained(builders.folder("bert"))


@pytest.fixture
def model() -> AdapterModel:
    set_seed(0)
    return fresh()


def put(model: AdapterModel, name: str, part: str = "seq_bn", head: str | None = None, seed: int = 1) -> None:
    model.keep(model.adapters, name, builders.package("bert", [builders.PARTS[part]], seed=seed))
    if head is not None:
        model.keep(model.heads, name, builders.package("bert", [], builders.HEADS[head], seed=seed))


def equal(one: Package, other: Package) -> bool:
    methods = [[part.method for part in package.manifest.parts] for package in (one, other)]
    same = methods[0] == methods[1] and set(one.tensors) == set(other.tensors)
    return same and all(torch.equal(tensor, other.tensors[name]) for name, tensor in one.tensors.items())


def test_a_fresh_adapter_changes_nothing_yet_and_trains(model):
    for config in ("seq_bn", "lora", "ia3", "compacter[reduction_factor=8,phm_dim=2]"):
        model.add_adapter("a", config, overwrite_ok=True, set_active=True)
        assert model.adapters["a"].trains
        bare = model(IDS, adapter_names=[]).last_hidden_state
        assert torch.allclose(model(IDS).last_hidden_state, bare, atol=0.05), config


def test_configurations_take_adapterhubs_members_and_unions(model):
    model.add_adapter("a", "lora[r=3,alpha=6,output_lora=True]")
    model.add_adapter("b", "lora", r=3, alpha=6, output_lora=True)
    assert model.adapters["a"].manifest.parts == model.adapters["b"].manifest.parts
    assert model.adapters["a"].manifest.parts[0].config["sites"]["0/attn_q"]["rank"] == 3
    model.add_adapter("c", "prefix_tuning[prefix_length=4,flat=True]|par_bn[reduction_factor=4,non_linearity=gelu]")
    assert model.adapters["c"].manifest.method == "prefix_tuning+bottleneck"
    model.add_adapter("d", [builders.PARTS["seq_bn"]])
    assert model.adapters["d"].manifest.parts == (builders.PARTS["seq_bn"],)


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ("magic", "'magic' is no method"),
        ("lora[rank=3]", "rank"),
        ("lora[", "is no configuration"),
        ([PartSpec("magic", {})], "'magic' is no method"),
        ("seq_bn|lora[selfattn_lora=False]", "no module"),
    ],
)
def test_configurations_that_mean_nothing_are_refused(model, config, reason):
    with pytest.raises(Misfit, match=reason):
        model.add_adapter("a", config)
    assert len(model.adapters) == 0


def test_a_name_is_taken_once(model):
    model.add_adapter("a")
    with pytest.raises(ValueError, match="already"):
        model.add_adapter("a")


def test_an_adapter_and_its_head_are_saved_and_loaded_in_adapterhubs_layout(model, tmp_path):
    put(model, "My.Task", head="two_layers")
    model.save_adapter(tmp_path / "saved", "My.Task")
    assert json.loads((tmp_path / "saved" / "adapter_config.json").read_text())["name"] == "My.Task"
    other = fresh()
    assert other.load_adapter(tmp_path / "saved") == "My.Task"
    assert other.active_head == "My.Task"
    assert other.active_adapters is None
    assert not other.adapters["My.Task"].trains
    assert not other.heads["My.Task"].trains
    assert torch.equal(model(IDS, adapter_names="My.Task").logits, other(IDS, adapter_names="My.Task").logits)
    assert other.heads["My.Task"].manifest.head.labels == ("a", "b", "c")
    alone = fresh()
    alone.load_adapter(tmp_path / "saved", with_head=False, set_active=True)
    assert len(alone.heads) == 0
    assert torch.equal(
        alone(IDS).last_hidden_state, other(IDS, adapter_names="My.Task", output_hidden_states=True).hidden_states[-1]
    )


def test_an_adapter_loaded_under_another_name_is_saved_under_that(model, tmp_path):
    put(model, "a", head="one_layer")
    model.save_adapter(tmp_path / "a", "a")
    assert model.load_adapter(tmp_path / "a", load_as="b") == "b"
    model.save_adapter(tmp_path / "b", "b")
    assert fresh().load_adapter(tmp_path / "b") == "b"
    assert equal(model.adapter_package("a", with_head=False), model.adapter_package("b", with_head=False))
    assert (tmp_path / "b" / "model_head.safetensors").is_file()
    model.save_adapter(tmp_path / "c", "b", with_head=False)
    assert not (tmp_path / "c" / "model_head.safetensors").exists()


LARGER = {"compacter", "compacter++"}  # than the tests' backbone, as they come
SMALLER = ("compacter[reduction_factor=8]", "compacter++[reduction_factor=8]")
UNSAVED = {"direft"}  # AdapterHub loads it as a noreft
CONFIGS = (*sorted({*PRESETS} - LARGER - UNSAVED), *SMALLER)


@pytest.mark.parametrize("config", CONFIGS)
def test_every_configuration_survives_saving_and_loading(model, config, tmp_path):
    model.add_adapter("a", config)
    noisy(model, "a")
    model.save_adapter(tmp_path / "a", "a")
    other = fresh()
    other.load_adapter(tmp_path / "a")
    assert equal(model.adapter_package("a"), other.adapter_package("a"))
    assert torch.equal(model(IDS, adapter_names="a").last_hidden_state, other(IDS, adapter_names="a").last_hidden_state)


@pytest.mark.parametrize("kind", ["ia3_input", "direft"])
def test_what_adapterhubs_layout_has_no_words_for_travels_as_a_native_package(model, kind, tmp_path):
    put(model, "a", kind)
    with pytest.raises(Misfit):
        model.save_adapter(tmp_path / "a", "a")
    (tmp_path / "a.safetensors").write_bytes(native.write(model.adapter_package("a")))
    other = fresh()
    assert other.load_adapter(tmp_path / "a.safetensors") == "a"
    assert torch.equal(model(IDS, adapter_names="a").last_hidden_state, other(IDS, adapter_names="a").last_hidden_state)


def test_all_adapters_are_saved_in_folders_of_their_names(model, tmp_path):
    put(model, "a", head="pooler")
    put(model, "sentiment/sst-2", "par_bn")
    model.save_all_adapters(tmp_path)
    assert (tmp_path / "a" / "adapter.safetensors").is_file()
    assert (tmp_path / "a" / "head_config.json").is_file()
    assert fresh().load_adapter(tmp_path / "sentiment" / "sst-2") == "sentiment/sst-2"


def test_of_a_folder_of_several_tasks_one_is_loaded(model, tmp_path):
    part = PartSpec("multitask_prompt", {"length": 2, "segments": False, "ranks": 1, "tasks": 3, "task": 0})
    peft.write(builders.package("bert", [part]), tmp_path / "tasks")
    for task in (0, 2):
        assert model.load_adapter(tmp_path / "tasks", load_as=f"task-{task}", task_id=task) == f"task-{task}"
        assert model.adapter_package(f"task-{task}").manifest.parts[0].config["task"] == task
    with pytest.raises(Misfit, match="say which task"):
        model.load_adapter(tmp_path / "tasks")


def test_peft_folders_are_called_as_their_folder(model, tmp_path):
    head = builders.HEADS["pooler"]
    peft.write(builders.package("bert", [builders.lora(bias=False)], head), tmp_path / "mine")
    assert model.load_adapter(tmp_path / "mine", labels=["x", "y"], problem_type="multi_label") == "mine"
    assert model.heads["mine"].manifest.head.labels == ("x", "y")


def test_a_pickled_adapter_is_read_through_the_converter(model, tmp_path):
    put(model, "a")
    model.save_adapter(tmp_path / "a", "a")
    from safetensors.torch import load_file

    torch.save(load_file(tmp_path / "a" / "adapter.safetensors"), tmp_path / "a" / "pytorch_adapter.bin")
    (tmp_path / "a" / "adapter.safetensors").unlink()
    model.load_adapter(tmp_path / "a", load_as="b")
    assert equal(model.adapter_package("a"), model.adapter_package("b"))


def test_what_is_no_adapter_is_not_loaded(model, tmp_path):
    put(model, "a", head="pooler")
    model.save_head(tmp_path / "head", "a")
    with pytest.raises(Misfit, match="no adapter, but a package of kind 'head'"):
        model.load_adapter(tmp_path / "head")
    with pytest.raises(FileNotFoundError):
        model.load_adapter(tmp_path / "nowhere")


def test_arguments_have_adapterhubs_names_and_order(model, tmp_path):
    model.add_adapter("a", "lora", False, True)
    assert model.active_adapters == Stack("a").children[0]
    model.add_adapter(adapter_name="a", config=None, overwrite_ok=True)
    assert model.adapters["a"].manifest.method == "bottleneck"
    model.keep(model.heads, "a", builders.package("bert", [], builders.HEADS["two_layers"]))
    model.save_adapter(save_directory=tmp_path / "a", adapter_name="a", use_safetensors=True)
    names = {0: "x", 1: "y", 2: "z"}
    loaded = model.load_adapter(tmp_path / "a", "pfeiffer", None, None, "b", True, None, None, names, True, False)
    assert loaded == "b"
    assert model.heads["b"].manifest.head.labels == ("x", "y", "z")
    assert list(blocks.names(model.active_adapters)) == ["b"]
    assert set(model.get_adapter("b")) == {0, 1}
    assert "down.weight" in model.get_adapter("b")[1]["ffn_junction"]


@pytest.mark.parametrize("given", ["version", "model_name", "custom_weights_loaders", "leave_out"])
def test_arguments_that_mean_nothing_here_are_refused_with_a_remedy(model, given, tmp_path):
    put(model, "a")
    model.save_adapter(tmp_path / "a", "a")
    with pytest.raises(TypeError, match=f"load_adapter takes no {given}: "):
        model.load_adapter(tmp_path / "a", load_as="b", **{given: [1]})
    with pytest.raises(TypeError, match="save_adapter takes no meta_dict: "):
        model.save_adapter(tmp_path / "b", "a", meta_dict={})
    assert not (tmp_path / "b").exists()


def test_a_configuration_that_is_asked_for_is_checked(model, tmp_path):
    model.add_adapter("a", "lora[r=4]")
    model.save_adapter(tmp_path / "a", "a")
    model.load_adapter(tmp_path / "a", "lora[r=4]")
    for wrong in ("lora", "seq_bn"):
        with pytest.raises(Misfit, match="made with another configuration"):
            model.load_adapter(tmp_path / "a", wrong, load_as="b")
    assert "b" not in model.adapters


@pytest.mark.parametrize("name", ["../out", "/out", "..", "."])
def test_no_name_leads_out_of_the_folder(model, name, tmp_path):
    put(model, "fine")
    put(model, name)
    model.save_adapter(tmp_path / "one", name)
    with pytest.raises(InvalidName, match="names no place inside"):
        model.save_all_adapters(tmp_path / "all")
    assert not (tmp_path / "all").exists()
    with pytest.raises(InvalidName, match="load_as"):
        model.load_adapter(tmp_path / "one")
    assert model.load_adapter(tmp_path / "one", load_as="safe") == "safe"


def test_deleting_what_is_active_leaves_nothing_active(model):
    assert not model.has_adapters
    put(model, "a")
    put(model, "b")
    assert model.has_adapters
    model.set_active_adapters(["a", "b"])
    model.delete_adapter("a")
    assert model.active_adapters is None
    assert list(model.adapters) == ["b"]
    model.delete_adapter("a")  # as in AdapterHub, what is not here needs no deleting


def test_training_an_adapter_freezes_the_others_and_makes_it_active(model):
    for name in ("a", "b"):
        put(model, name, head="pooler")
    model.add_adapter_fusion(["a", "b"])
    model.train_adapter("a")
    assert model.training
    assert (model.adapters["a"].trains, model.adapters["b"].trains) == (True, False)
    assert (model.heads["a"].trains, model.fusions["a,b"].trains) == (True, False)
    assert model.active_head == "a"
    model.freeze_adapter("a")
    model.freeze_head("a")
    assert not model.adapters["a"].trains
    assert not model.heads["a"].trains
    model.freeze_adapter("a", freeze=False)
    assert model.adapters["a"].trains


@pytest.mark.parametrize("train", ["train_adapter", "train_adapter_fusion"])
def test_a_head_that_is_frozen_by_name_stays_so_whatever_trains(model, train):
    for name in ("a", "b"):
        put(model, name, head="pooler")
    model.add_adapter_fusion(["a", "b"])
    model.freeze_head("a")
    getattr(model, train)(Fuse("a", "b"))
    assert (model.heads["a"].trains, model.heads["b"].trains) == (False, True)
    model.freeze_head("a", freeze=False)
    model.freeze_head("b", freeze=True)
    getattr(model, train)(Fuse("a", "b"))
    assert (model.heads["a"].trains, model.heads["b"].trains) == (True, False)
    model.delete_head("b")
    model.keep(model.heads, "b", builders.package("bert", [], builders.HEADS["pooler"]))
    getattr(model, train)(Fuse("a", "b"))
    assert model.heads["b"].trains


def test_a_head_that_was_only_loaded_trains_when_something_does(model, tmp_path):
    put(model, "a", head="pooler")
    model.save_adapter(tmp_path / "a", "a")
    other = fresh()
    other.load_adapter(tmp_path / "a")
    assert not other.heads["a"].trains
    other.train_adapter("a")
    assert other.heads["a"].trains


def test_training_a_fusion_freezes_its_adapters_unless_told_otherwise(model):
    for name in ("a", "b"):
        put(model, name)
    model.add_adapter_fusion(["a", "b"])
    model.train_adapter_fusion(Fuse("a", "b"))
    assert [model.adapters[name].trains for name in "ab"] == [False, False]
    assert model.fusions["a,b"].trains
    assert model.active_adapters == Fuse("a", "b")
    model.train_adapter_fusion(Fuse("a", "b"), unfreeze_adapters=True)
    assert [model.adapters[name].trains for name in "ab"] == [True, True]
    with pytest.raises(ValueError, match="no Fuse"):
        model.train_adapter_fusion("a")


def noisy(model: AdapterModel, name: str) -> None:
    with torch.no_grad():
        for i, parameter in enumerate(model.adapters[name].parameters()):
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(i)) * 0.3)


def unsaid(model: AdapterModel, folder: Path, name: str = "a") -> Path:
    """A folder whose reader has something to say of the adapter, and of the head."""
    model.add_adapter(name, "noreft")
    model.keep(model.heads, name, builders.package("bert", [], builders.HEADS["two_layers"]), replace=True)
    model.save_adapter(folder, name)
    config = json.loads((folder / "adapter_config.json").read_text())
    del config["config"]["subtract_projection"]
    (folder / "adapter_config.json").write_text(json.dumps(config))
    head = json.loads((folder / "head_config.json").read_text())
    head["config"]["label2id"] = None
    (folder / "head_config.json").write_text(json.dumps(head))
    return folder


def said(load: Callable[[], object]) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        load()
    assert {warning.filename for warning in caught} <= {__file__}
    return [str(warning.message) for warning in caught]


def test_what_the_reader_has_to_say_is_a_warning_of_what_it_is_about(model, tmp_path):
    folder = unsaid(model, tmp_path / "a")
    other = fresh()
    adapters, heads = said(lambda: other.load_adapter(folder))
    assert UNSAID in adapters
    assert UNNAMED in heads
    assert str(folder) in adapters
    assert [UNSAID in text for text in said(lambda: other.load_adapter(folder, with_head=False))] == [True]
    assert [UNSAID in text for text in said(lambda: other.load_adapter(folder, labels=["x", "y", "z"]))] == [True]
    assert [UNNAMED in text for text in said(lambda: other.load_head(folder))] == [True]


def test_warnings_stay_with_their_package_on_every_way(model, tmp_path):
    folder = unsaid(model, tmp_path / "a")
    whole = recognise.read(folder, model.backbone.profile)
    assert recognise.warnings(whole) == (UNSAID, UNNAMED)
    alone, head = parted(whole)
    assert (recognise.warnings(alone), recognise.warnings(head)) == ((UNSAID,), (UNNAMED,))
    again = joined("a", alone, head)
    assert again.manifest == whole.manifest
    assert recognise.warnings(joined("b", alone, head)) == (UNSAID, UNNAMED)
    assert recognise.warnings(joined("b", alone, None)) == (UNSAID,)


def test_an_adapter_whose_reader_says_nothing_is_parted_and_joined_as_it_was(model, tmp_path):
    put(model, "a", head="two_layers")
    model.save_adapter(tmp_path / "a", "a")
    whole = recognise.read(tmp_path / "a", model.backbone.profile)
    assert joined("a", *parted(whole)).manifest == whole.manifest


@pytest.mark.parametrize(
    ("verb", "arguments"),
    [
        ("save_adapter", ["a"]),
        ("save_all_adapters", []),
        ("save_head", ["a"]),
        ("save_all_heads", []),
        ("save_adapter_fusion", ["a,b"]),
        ("save_all_adapter_fusions", []),
        ("save_adapter_setup", ["a"]),
    ],
)
def test_no_verb_writes_pickles_and_none_pretends_to(model, verb, arguments, tmp_path):
    put(model, "a", head="pooler")
    put(model, "b")
    model.add_adapter_fusion(["a", "b"])
    with pytest.raises(TypeError, match=f"{verb} takes no use_safetensors=False: .* with use_safetensors=True"):
        getattr(model, verb)(tmp_path / "x", *arguments, use_safetensors=False)
    assert not (tmp_path / "x").exists()
    getattr(model, verb)(tmp_path / "x", *arguments, use_safetensors=True)
    assert list((tmp_path / "x").rglob("*.safetensors"))


def test_what_is_saved_again_is_what_every_library_reads(model, tmp_path):
    put(model, "a", head="pooler")
    model.save_adapter(tmp_path / "a", "a")
    (tmp_path / "a" / "pytorch_adapter.bin").write_bytes(b"an older save")
    (tmp_path / "a" / "pytorch_model_head.bin").write_bytes(b"an older save")
    model.save_adapter(tmp_path / "a", "a", with_head=False)
    assert {path.name for path in (tmp_path / "a").iterdir()} == {"adapter_config.json", "adapter.safetensors"}
    other = fresh()
    other.load_adapter(tmp_path / "a")
    assert len(other.heads) == 0
    model.save_head(tmp_path / "a", "a")
    other.load_adapter(tmp_path / "a")
    assert list(other.heads) == ["a"]
    model.delete_head("a")
    model.save_adapter(tmp_path / "a", "a")
    with pytest.raises(Misfit, match="holds no head"):
        other.load_head(tmp_path / "a")


def test_a_number_that_overflows_is_no_configuration(model):
    for value in (10**400, 1e39, float("inf")):
        with pytest.raises(Misfit, match="scaling must be a number, 'learned' or 'channel'"):
            model.add_adapter("a", "seq_bn", scaling=value)
        with pytest.raises(Misfit, match="alpha must be a number"):
            model.add_adapter("a", "lora", alpha=value)
