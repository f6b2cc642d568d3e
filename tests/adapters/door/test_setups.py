import json

import pytest
import torch
from transformers import set_seed

from adapters.door.blocks import Average, BatchSplit, Fuse, MultiTask, Parallel, Split, Stack
from adapters.errors import InvalidName, Misfit
from adapters.model import AdapterModel
from tests.adapters import builders

IDS = torch.from_numpy(builders.ids(1, 12)).view(2, 6)


def fresh() -> AdapterModel:
    return AdapterModel.from_pretrained(builders.folder("bert"))


@pytest.fixture
def model() -> AdapterModel:
    set_seed(0)
    made = fresh()
    for i, name in enumerate("abc"):
        made.keep(made.adapters, name, builders.package("bert", [builders.PARTS["seq_bn"]], seed=i))
    made.keep(made.heads, "c", builders.package("bert", [], builders.HEADS["one_layer"]))
    made.add_adapter_fusion(["b", "c"], name="f")
    made.add_adapter_fusion(["b", "c"])
    made.add_tagging_head("tags")
    return made


SETUPS = {
    "stack": Stack("a", "c"),
    "fuse": Stack("a", Fuse("b", "c")),
    "named_fuse": Stack("a", Fuse("b", "c", name="f")),
    "average": Stack("a", Average("b", "c", weights=[1, 3])),
    "split": Split("b", "c", splits=[2, 4]),
    "parallel": Parallel("b", Stack("a", "c")),
    "multi_task": Stack("a", MultiTask("b", "c")),
    "single": "c",
}


@pytest.mark.parametrize("name", list(SETUPS))
def test_every_arrangement_is_saved_with_its_members_and_loaded_again(model, name, tmp_path):
    setup = SETUPS[name]
    tasks = {"task_ids": [1, 0]} if name == "multi_task" else {}
    head = None if name == "parallel" else "tags"
    model.save_adapter_setup(tmp_path, setup, head)
    other = fresh()
    found, said = other.load_adapter_setup(tmp_path, set_active=True)
    assert said == head
    assert not any(parameter.requires_grad for parameter in other.parameters())
    other.active_head = None if name == "parallel" else other.active_head
    expected = model(IDS, adapter_names=setup, head=head, **tasks)
    got = other(IDS, **tasks)
    assert other.active_head == head or name == "parallel"
    one, two = (made.head_outputs[1].logits if name == "parallel" else made.logits for made in (expected, got))
    assert torch.equal(one, two)
    assert list(model.adapters) != [] and found is not None


def test_the_library_finds_its_own_words(model, tmp_path):
    model.save_adapter_setup(tmp_path, ["a", Average("b", "c", weights=[1, 3])], "c")
    saved = json.loads((tmp_path / "adapter_setup.json").read_text())
    average = {
        "type": "Average",
        "children": [{"type": "single", "children": ["b"]}, {"type": "single", "children": ["c"]}],
        "kwargs": {"weights": [1.0, 3.0]},
    }
    assert saved["adapter_setup"] == {"type": "Stack", "children": [{"type": "single", "children": ["a"]}, average]}
    assert saved["head_setup"] == "c"
    assert (tmp_path / "c" / "head_config.json").is_file()


def test_what_no_setup_can_hold_is_refused(model, tmp_path):
    with pytest.raises(Misfit, match="BatchSplit divides one batch"):
        model.save_adapter_setup(tmp_path, BatchSplit("a", "b", batch_sizes=1))
    with pytest.raises(ValueError, match="no adapter 'x'"):
        model.save_adapter_setup(tmp_path, "x")


def test_an_average_is_an_adapter_of_its_own(model):
    model.average_adapter("mean", ["a", "b"])
    a, b, mean = (model.adapters[name].package().tensors for name in ("a", "b", "mean"))
    assert all(torch.allclose(tensor, (a[name] + b[name]) / 2, atol=1e-6) for name, tensor in mean.items())
    model.average_adapter("tilted", ["a", "b"], weights=[3, 1], set_active=True)
    tilted = model.adapters["tilted"].package().tensors
    assert all(torch.allclose(tensor, (3 * a[name] + b[name]) / 4, atol=1e-6) for name, tensor in tilted.items())
    model.average_adapter("sum", {"a": 1.0, "b": -1.0}, normalize_weights=False)
    difference = model.adapters["sum"].package().tensors
    assert all(torch.allclose(tensor, a[name] - b[name], atol=1e-6) for name, tensor in difference.items())
    assert model(IDS).logits.shape == (2, 6, 2)


def test_averages_that_mean_nothing_are_refused(model):
    with pytest.raises(ValueError, match="a weight for each"):
        model.average_adapter("x", ["a", "b"], weights=[1])
    with pytest.raises(ValueError, match="takes names"):
        model.average_adapter("x", [])
    with pytest.raises(ValueError, match="sum, which is zero"):
        model.average_adapter("x", {"a": 1.0, "b": -1.0})
    with pytest.raises(ValueError, match="must be finite"):
        model.average_adapter("x", ["a", "b"], weights=[float("nan"), 1], normalize_weights=False)
    with pytest.raises(TypeError, match="a list of names, not 'ab'"):
        model.average_adapter("x", "ab")
    with pytest.raises(ValueError, match="already"):
        model.average_adapter("a", ["a", "b"])
    model.average_adapter("a", ["a", "b"], overwrite_ok=True)


def test_heads_are_averaged_if_only_their_parameters_differ(model):
    model.keep(model.heads, "other", builders.package("bert", [], builders.HEADS["one_layer"], seed=5))
    model.average_head("mean", ["c", "other"], weights=[1, 3])
    one, two, mean = (model.heads[name].package() for name in ("c", "other", "mean"))
    for name, tensor in mean.tensors.items():
        assert torch.allclose(tensor, one.tensors[name] / 4 + 3 * two.tensors[name] / 4, atol=1e-6)
    assert mean.manifest.head.name == "mean"
    assert model.active_head == "tags"
    model.average_head("mean", {"c": 1.0, "other": 0.0}, overwrite_ok=True, set_active=True)
    assert model.active_head == "mean"
    with pytest.raises(Misfit, match="differ in their configurations"):
        model.average_head("wrong", ["c", "tags"])


def test_a_setup_is_saved_below_its_folder_whole_or_not_at_all(model, tmp_path):
    for name in ("../out", "/out"):
        model.keep(model.adapters, name, builders.package("bert", [builders.PARTS["seq_bn"]]))
        with pytest.raises(InvalidName, match="names no place inside"):
            model.save_adapter_setup(tmp_path / "setup", ["a", name])
    with pytest.raises(ValueError, match="no head 'x'"):
        model.save_adapter_setup(tmp_path / "setup", "a", "x")
    with pytest.raises(TypeError, match="head_setup is the name of a head, not bool"):
        model.save_adapter_setup(tmp_path / "setup", "a", True)
    with pytest.raises(Misfit, match="can not say skip_layers"):
        model.save_adapter_setup(tmp_path / "setup", {"stack": ["a"], "skip_layers": [0]})
    with pytest.raises(TypeError, match="takes no meta_dict"):
        model.save_adapter_setup(tmp_path / "setup", "a", meta_dict={"a": 1})
    with pytest.raises(TypeError, match="takes no version"):
        model.load_adapter_setup(tmp_path / "setup", "1")
    assert not (tmp_path / "setup").exists()
    assert not (tmp_path / "out").exists()


def test_the_summary_lists_what_is_here_active_and_trained(model):
    model.train_adapter(["a"])
    lines = model.adapter_summary().splitlines()
    assert lines[0].split() == ["name", "architecture", "#param", "%param", "active", "train"]
    assert [line.split()[0] for line in lines[1:]] == ["a", "b", "c", "Full"]
    assert lines[1].split()[-2:] == ["1", "1"]
    assert lines[2].split()[-2:] == ["0", "0"]
    size = sum(tensor.numel() for tensor in model.adapters["a"].package().tensors.values())
    assert lines[1].split()[2] == f"{size:,}"


def test_the_summary_comes_as_rows_under_adapterhubs_names(model):
    model.train_adapter(["a"])
    a, b, _, whole = model.adapter_summary(as_dict=True)
    size = sum(tensor.numel() for tensor in model.adapters["a"].package().tensors.values())
    share = a.pop("%param")
    assert a == {"name": "a", "architecture": "bottleneck", "#param": size, "active": True, "train": True}
    assert (b["active"], b["train"]) == (False, False)
    assert (whole["name"], whole["%param"], whole["train"]) == ("Full model", 100.0, False)
    assert share == pytest.approx(100 * size / whole["#param"])


def test_what_the_readers_say_of_the_members_is_told(model, tmp_path):
    model.save_adapter_setup(tmp_path, ["a", "c"])
    config = json.loads((tmp_path / "c" / "head_config.json").read_text())
    config["config"]["label2id"] = None
    (tmp_path / "c" / "head_config.json").write_text(json.dumps(config))
    with pytest.warns(UserWarning, match="c: the folder does not name its labels") as caught:
        fresh().load_adapter_setup(tmp_path)
    assert len(caught) == 1
    assert caught[0].filename == __file__
