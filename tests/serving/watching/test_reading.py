import pytest
import torch

from adapters.errors import InvalidPackage, Misfit, UnsafeFile
from adapters.formats import native
from adapters.formats.adapterhub import folder as adapterhub
from adapters.formats.peft import folder as peft
from serving.errors import TooLarge
from serving.watching.reading import read
from tests.adapters import builders
from tests.serving.commands.test_packages import pickled

PROFILE = builders.profile("bert")
PACKAGE = builders.package("bert", [builders.lora(bias=False)], builders.HEADS["two_layers"])
PLENTY = 1 << 30


def test_every_format_becomes_the_same_native_package_every_time(tmp_path):
    adapterhub.write(PACKAGE, tmp_path / "hub", name="tone")
    peft.write(builders.package("bert", [builders.lora(bias=False)]), tmp_path / "peft")
    for name in ("hub", "peft"):
        space, data = read(tmp_path / name, PROFILE, PLENTY)
        assert space == "adapter"
        assert native.read(data).manifest.method == "lora"
        assert read(tmp_path / name, PROFILE, PLENTY)[1] == data


def test_a_native_file_stays_byte_for_byte_and_an_embedding_goes_where_it_belongs(tmp_path):
    file = tmp_path / "tone.safetensors"
    file.write_bytes(native.write(PACKAGE))
    assert read(file, PROFILE, PLENTY) == ("adapter", file.read_bytes())
    file.write_bytes(native.write(builders.embedding_package("bert")))
    assert read(file, PROFILE, PLENTY)[0] == "embedding"


def test_pickles_are_refused_and_never_opened(tmp_path, monkeypatch):
    adapterhub.write(PACKAGE, tmp_path / "hub", name="tone")
    pickled(tmp_path / "hub")
    monkeypatch.setattr(torch, "load", None)
    with pytest.raises(UnsafeFile):
        read(tmp_path / "hub", PROFILE, PLENTY)


def test_what_does_not_fit_tells_every_reason(tmp_path):
    peft.write(builders.package("bert", [builders.lora(("attn_q", "attn_v"), bias=False)]), tmp_path / "peft")
    with pytest.raises(Misfit) as caught:
        read(tmp_path / "peft", builders.profile("distilbert"), PLENTY)
    assert caught.value.reasons


def test_what_is_too_large_is_not_read(tmp_path):
    file = tmp_path / "tone.safetensors"
    file.write_bytes(b"x" * 101)
    with pytest.raises(TooLarge, match="101 bytes; a package may have at most 100"):
        read(file, PROFILE, 100)


def test_a_saved_setup_is_pushed_by_hand(tmp_path):
    (tmp_path / "setup").mkdir()
    (tmp_path / "setup" / adapterhub.SETUP_CONFIG).write_text("{}")
    with pytest.raises(Misfit, match="chorus push"):
        read(tmp_path / "setup", PROFILE, PLENTY)


def test_a_file_that_is_no_package_is_refused(tmp_path):
    file = tmp_path / "tone.safetensors"
    file.write_bytes(b"half of it")
    with pytest.raises(InvalidPackage):
        read(file, PROFILE, PLENTY)
