import json

import pytest

from adapters.errors import Misfit, UnsafeFile
from adapters.formats.adapterhub import setup
from adapters.formats.adapterhub.folder import FUSION
from tests.adapters.formats import folders
from tests.adapters.formats.adapterhub import by_hand
from tests.adapters.formats.folders import profile, saved, seq_bn, tensors


def one(name):
    return {"type": "single", "children": [name]}


def block(kind, *children, **kwargs):
    value = {"type": kind, "children": [one(c) if isinstance(c, str) else c for c in children]}
    return value | ({"kwargs": kwargs} if kwargs else {})


def adapter(folder, name, *, head=False):
    held = tensors(folders.seq_bn_keys(name=name))
    folders.write(folder / name, "adapter.safetensors", "adapter_config.json", saved(seq_bn(), name=name), held)
    if head:
        head_alone(folder, name)


def head_alone(folder, name):
    held = tensors(folders.head_keys(name))
    config = saved(folders.head_config(), name=name)
    folders.write(folder / name, "model_head.safetensors", "head_config.json", config, held)


def fusion(folder, name, names):
    config = saved(by_hand.fusion_config(), name=name, adapter_names=names)
    held = tensors(by_hand.fusion(by_hand.FAMILIES["bert"], name))
    folders.write(folder / name, FUSION, "adapter_fusion_config.json", config, held)


def arranged(folder, arrangement, head=None):
    folder.mkdir(exist_ok=True)
    value = {"adapter_setup": arrangement, "head_setup": head, "version": "adapters.1.3.0"}
    (folder / "adapter_setup.json").write_text(json.dumps(value))
    return folder


def reasons(folder):
    with pytest.raises(Misfit) as caught:
        setup.read(folder, profile())
    return caught.value.reasons


def test_a_stack_with_the_head_of_its_last_adapter(tmp_path):
    adapter(tmp_path, "My Lang")
    adapter(tmp_path, "task", head=True)
    found = setup.read(arranged(tmp_path, block("Stack", "My Lang", "task"), "task"), profile())
    assert setup.is_setup(tmp_path)
    assert found.composition == {"stack": ["My Lang", "task"]}
    assert (list(found.adapters), found.fusions, found.heads, found.head) == (["My Lang", "task"], {}, {}, "task")
    assert found.adapters["task"].manifest.head is not None


def test_a_fusion_in_a_stack_with_a_head_of_its_own(tmp_path):
    for name in ("lang", "a", "b"):
        adapter(tmp_path, name)
    fusion(tmp_path, "a,b", ["a", "b"])
    head_alone(tmp_path, "fused_head")
    arrangement = block("Stack", "lang", block("Fuse", "a", "b"))
    found = setup.read(arranged(tmp_path, arrangement, "fused_head"), profile())
    assert found.composition == {"stack": ["lang", {"fuse": ["a", "b"], "name": "a,b"}]}
    assert found.fusions["a,b"].manifest.children == ("a", "b")
    assert (list(found.heads), found.head) == (["fused_head"], "fused_head")


def test_a_fusion_with_a_name_of_its_own_is_found_by_what_it_fuses(tmp_path):
    for name in ("a", "b"):
        adapter(tmp_path, name)
    fusion(tmp_path, "mine", ["a", "b"])
    folder = arranged(tmp_path, block("Fuse", block("Stack", "b", "a"), "b"))
    assert setup.read(folder, profile()).composition == {"fuse": [{"stack": ["b", "a"]}, "b"], "name": "mine"}
    fusion(tmp_path, "other", ["a", "b"])
    assert "several fusions of a, b: mine, other" in reasons(folder)[0]


def test_weights_splits_and_parallel_parts_are_kept(tmp_path):
    for name in ("a", "b"):
        adapter(tmp_path, name, head=True)
    for kind, kwargs, expected in (
        ("Average", {"weights": [0.25, 0.75]}, {"average": ["a", "b"], "weights": [0.25, 0.75]}),
        ("Split", {"splits": [2, 3]}, {"split": ["a", "b"], "splits": [2, 3]}),
        ("Split", {"splits": 4}, {"split": ["a", "b"], "splits": [4, 4]}),
        ("MultiTask", {}, {"multi_task": ["a", "b"]}),
    ):
        assert setup.read(arranged(tmp_path, block(kind, "a", "b", **kwargs)), profile()).composition == expected
    found = setup.read(arranged(tmp_path, block("Parallel", "a", "b"), ["a", "b"]), profile())
    assert (found.composition, found.head) == ({"parallel": ["a", "b"]}, None)


def test_one_adapter_is_a_stack(tmp_path):
    adapter(tmp_path, "a")
    assert setup.read(arranged(tmp_path, one("a")), profile()).composition == {"stack": ["a"]}


@pytest.mark.parametrize(
    ("arrangement", "head", "said"),
    [
        (block("BatchSplit", "a", "a", batch_sizes=[1, 1]), None, "no part of a target"),
        (block("Stack", block("BatchSplit", "a", batch_sizes=1)), None, "no part of a target"),
        (block("Magic", "a"), None, "'Magic'"),
        (block("Stack"), None, "no block of adapters"),
        (None, None, "no block of adapters"),
        ({"type": "single", "children": [5]}, None, "one name"),
        (block("Fuse", block("Parallel", "a", "a")), None, "Fuse can not hold Parallel"),
        (block("Split", "a", "a", splits=[1]), None, "splits"),
        (block("Average", "a", "a", weights=[1, -1]), None, "sum"),
        (one("a"), ["a"], "head setup ['a']"),
        (one("a"), {"type": "BatchSplit"}, "head setup"),
        (one("a"), "a", "does not hold"),
        (one("a"), "lost", "names 'lost'"),
        (one("../a"), None, "names '../a'"),
        (one("/etc"), None, "names '/etc'"),
    ],
)
def test_what_can_be_no_target_is_refused(tmp_path, arrangement, head, said):
    adapter(tmp_path / "setup", "a")
    adapter(tmp_path, "a")
    found = reasons(arranged(tmp_path / "setup", arrangement, head))
    assert any(said in reason for reason in found), found


def test_every_member_s_reasons_come_together_with_its_name(tmp_path):
    adapter(tmp_path, "a")
    head_alone(tmp_path, "b")
    folders.write(
        tmp_path / "c", "adapter.safetensors", "adapter_config.json", saved(seq_bn(), name="c"), tensors({"x": (1,)})
    )
    found = reasons(arranged(tmp_path, block("Stack", "a", "b", "c", "d")))
    assert "b is of the kind 'head'" in found[0]
    assert all(reason.startswith("c: ") for reason in found[1:-1])
    assert len(found[1:-1]) == 9
    assert "names 'd'" in found[-1]


def test_warnings_name_their_member_and_pickles_stay_unsafe(tmp_path):
    keys = by_hand.reft(by_hand.FAMILIES["bert"])
    folders.write(
        tmp_path / "a", "adapter.safetensors", "adapter_config.json", saved(by_hand.reft_config()), tensors(keys)
    )
    (warning,) = setup.read(arranged(tmp_path, one("a")), profile()).warnings
    assert warning.startswith("a: AdapterHub does not store")
    (tmp_path / "a" / "adapter.safetensors").rename(tmp_path / "a" / "pytorch_adapter.bin")
    with pytest.raises(UnsafeFile, match="a: pytorch_adapter"):
        setup.read(tmp_path, profile())
