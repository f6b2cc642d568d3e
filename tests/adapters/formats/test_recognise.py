import pytest

from adapters.errors import InvalidPackage, Misfit
from adapters.formats import native, recognise
from tests.adapters.formats.adapterhub import by_hand
from tests.adapters.formats.folders import (
    CLASSIFIER,
    H,
    attention,
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
