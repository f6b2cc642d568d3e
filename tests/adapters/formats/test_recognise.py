import copy
import json
from contextlib import suppress
from dataclasses import replace

import pytest

from adapters.errors import AdapterError, InvalidPackage, Misfit
from adapters.formats import native, recognise
from adapters.weights import Package
from tests.adapters.formats import folders
from tests.adapters.formats.adapterhub import by_hand
from tests.adapters.formats.folders import (
    CLASSIFIER,
    H,
    adapterhub_folder,
    attention,
    head_config,
    peft_config,
    peft_folder,
    peft_lora_keys,
    profile,
    saved,
    seq_bn_folder,
    tensors,
    write,
)


def test_every_format_is_recognised_by_what_it_holds(tmp_path):
    hub = recognise.read(seq_bn_folder(tmp_path / "hub"), profile())
    assert hub.manifest.provenance.library == "adapterhub"
    keys = peft_lora_keys(attention("query", "value")) | CLASSIFIER
    other = recognise.read(peft_folder(tmp_path / "peft", peft_config(), keys), profile())
    assert other.manifest.provenance.library == "peft"
    write(tmp_path / "emb", "embedding.safetensors", None, None, tensors({"embedding": (3, H)}))
    assert recognise.read(tmp_path / "emb", profile()).manifest.kind == "embedding"
    (tmp_path / "file").write_bytes(native.write(hub))
    assert recognise.format_of(tmp_path / "file") == "native"
    assert recognise.read(tmp_path / "file", profile()).manifest == hub.manifest


def test_a_fusion_is_read_and_a_setup_is_a_target(tmp_path):
    held = tensors(by_hand.fusion(by_hand.FAMILIES["bert"]))
    config = saved(by_hand.fusion_config(), name="x,y")
    write(tmp_path / "fusion", "model_adapter_fusion.safetensors", "adapter_fusion_config.json", config, held)
    assert recognise.read(tmp_path / "fusion", profile()).manifest.children == ("x", "y")
    (tmp_path / "adapter_setup.json").write_text("{}")
    with pytest.raises(Misfit, match="`chorus push` publishes it as a target"):
        recognise.read(tmp_path, profile())


def test_warnings_are_those_of_the_reader(tmp_path):
    keys = peft_lora_keys(attention("query", "value")) | CLASSIFIER
    folder = peft_folder(tmp_path, peft_config(), keys)
    assert len(recognise.warnings(recognise.read(folder, profile()))) == 1
    assert recognise.warnings(recognise.read(folder, profile(), labels=["a", "b", "c"])) == ()


def test_labels_reach_adapterhub_heads_and_are_refused_for_native_packages(tmp_path):
    folder = seq_bn_folder(tmp_path / "hub")
    assert recognise.read(folder, profile(), labels=["a", "b", "c"]).manifest.head.labels == ("a", "b", "c")
    (tmp_path / "file").write_bytes(native.write(recognise.read(folder, profile())))
    with pytest.raises(Misfit, match="its own labels"):
        recognise.read(tmp_path / "file", profile(), labels=["a", "b", "c"])


def test_a_task_is_for_folders_of_peft_alone(tmp_path):
    hub = seq_bn_folder(tmp_path / "hub")
    (tmp_path / "file").write_bytes(native.write(recognise.read(hub, profile())))
    for source in (hub, tmp_path / "file"):
        with pytest.raises(Misfit, match="task_id is 1, but only folders of PEFT hold several tasks: leave it out"):
            recognise.read(source, profile(), task_id=1)


def test_what_is_no_adapter_is_refused(tmp_path):
    with pytest.raises(InvalidPackage, match="there is no"):
        recognise.read(tmp_path / "absent", profile())
    with pytest.raises(InvalidPackage, match=r"no adapter_config.json"):
        recognise.read(tmp_path, profile())
    (tmp_path / "adapter_config.json").write_text("[]")
    with pytest.raises(InvalidPackage, match=r"adapter_config.json"):
        recognise.read(tmp_path, profile())


def test_a_broken_file_is_one_reason_more_and_hides_no_other(tmp_path):
    folder = seq_bn_folder(tmp_path / "hub")
    (folder / "model_head.safetensors").unlink(missing_ok=True)
    (folder / "embedding.safetensors").write_bytes(b"\x10" + b"\x00" * 7 + b"{}")
    with pytest.raises(Misfit) as caught:
        recognise.read(folder, profile(hidden=2 * H))
    assert len(caught.value.reasons) > 1
    assert "no readable safetensors" in caught.value.reasons[-1]
    assert "no readable" not in caught.value.reasons[0]


ODD = [None, True, "x", 5, [], [[]], {}, {"0": ["x"]}]


def mutants(folder, name):
    """The folder once for every member of one of its configurations and every odd value."""
    whole = json.loads((folder / name).read_text())
    inner = whole.get("config") if isinstance(whole.get("config"), dict) else {}
    places = [(key, ()) for key in whole] + [(key, ("config",)) for key in inner]
    for key, path in places:
        for value in ODD:
            changed = copy.deepcopy(whole)
            (changed[path[0]] if path else changed)[key] = value
            (folder / name).write_text(json.dumps(changed))
            yield key, value
    (folder / name).write_text(json.dumps(whole))


def odd_folder(kind, path):
    if kind == "peft":
        return peft_folder(path, peft_config(), peft_lora_keys(attention("query", "value")) | CLASSIFIER)
    if kind == "fusion":
        config = saved(by_hand.fusion_config(), name="x,y", adapter_names=["x", "y"])
        held = tensors(by_hand.fusion(by_hand.FAMILIES["bert"]))
        return write(path, "model_adapter_fusion.safetensors", "adapter_fusion_config.json", config, held)
    if kind == "head":
        held, config = head_config(id2label=None), folders.head_keys()
        return write(path, "model_head.safetensors", "head_config.json", saved(held), tensors(config))
    config, keys = by_hand.cases("bert")[kind]
    return adapterhub_folder(path, config, keys, head=head_config())


@pytest.mark.parametrize(
    "kind", ["peft", "fusion", "head", "seq_bn_inv", "compacter", "lora", "mtl", "prefix", "prompt", "noreft"]
)
def test_whatever_a_configuration_says_what_comes_out_is_a_package_or_a_refusal(kind, tmp_path):
    folder = odd_folder(kind, tmp_path / "in")
    recognise.read(folder, profile())
    names = [path.name for path in folder.glob("*.json")]
    for name in names:
        for _ in mutants(folder, name):
            with suppress(AdapterError):
                native.write(recognise.read(folder, profile()))


def test_warnings_of_a_package_that_says_something_else_there_are_none(tmp_path):
    package = recognise.read(seq_bn_folder(tmp_path / "hub"), profile())
    for odd in (5, "text", {"a": 1}, None):
        held = replace(package.manifest, source={"warnings": odd})
        assert recognise.warnings(Package(held, package.tensors)) == ()
