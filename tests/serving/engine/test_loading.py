"""From a file to a folded adapter or a vocabulary."""

from dataclasses import replace

import pytest
import torch

from adapters.embeddings import TokenEmbedding
from adapters.errors import InvalidPackage, Misfit
from adapters.formats import native
from adapters.manifest import Manifest, TargetSpec
from adapters.refs import AdapterRef
from adapters.weights import Adapter, Package
from serving.engine import loading
from serving.engine.loading import Loader
from tests.adapters import builders
from tests.serving.engine.bench import fusion_package, package

REF = AdapterRef("a", "x", 1, "sha256:x")


@pytest.fixture
def loader():
    return Loader(builders.profile("bert"), torch.float32)


def stored(folder, package):
    path = folder / "package"
    path.write_bytes(native.write(package))
    return path


def test_an_adapter_is_folded_and_its_device_bytes_are_known(loader, tmp_path):
    adapter = loader.load(REF, stored(tmp_path, package(1)))
    assert isinstance(adapter, Adapter)
    assert not adapter.flat.requires_grad
    assert loader.device_bytes([REF])[REF] == adapter.nbytes


def test_a_vocabulary_takes_no_room_on_the_device(loader, tmp_path):
    entry = loader.load(REF, stored(tmp_path, builders.embedding_package("bert", tokenizer=b"{}")))
    assert isinstance(entry, TokenEmbedding)
    assert entry.matrix.shape == (50, builders.HIDDEN)
    assert loader.device_bytes([REF]) == {REF: 0}


def test_weights_take_the_engines_dtype(tmp_path):
    loader = Loader(builders.profile("bert"), torch.bfloat16)
    adapter = loader.load(REF, stored(tmp_path, package(1)))
    assert adapter.flat.dtype == torch.bfloat16
    assert loader.device_bytes([REF])[REF] == adapter.nbytes


def test_a_package_for_another_backbone_is_refused_with_every_reason(loader, tmp_path):
    made = package(1)
    foreign = replace(made.manifest, requires=replace(made.manifest.requires, layers=9, hidden_size=7))
    with pytest.raises(Misfit) as misfit:
        loader.load(REF, stored(tmp_path, Package(foreign, made.tensors)))
    assert len(misfit.value.reasons) == 2


def test_missing_and_misshapen_tensors_are_all_named(loader, tmp_path):
    made = package(1)
    gone, bent, *_ = sorted(made.tensors)
    tensors = {name: tensor for name, tensor in made.tensors.items() if name != gone}
    tensors[bent] = torch.zeros(1, 1)
    with pytest.raises(Misfit) as misfit:
        loader.load(REF, stored(tmp_path, Package(made.manifest, tensors)))
    assert [reason.split()[0] for reason in misfit.value.reasons] == [gone, bent]


def test_a_target_holds_nothing_to_load(loader, tmp_path):
    target = Manifest("target", builders.requires("bert"), target=TargetSpec({"stack": ["a@1"]}))
    with pytest.raises(Misfit, match="'target'"):
        loader.load(REF, stored(tmp_path, Package(target, {})))


def test_a_fusion_is_folded_like_an_adapter(loader, tmp_path):
    made = fusion_package(3)
    adapter = loader.load(REF, stored(tmp_path, made))
    assert adapter.manifest.kind == "fusion"
    assert loader.device_bytes([REF])[REF] == adapter.nbytes > 0


def test_folds_that_depend_on_the_backbone_see_its_weights(tmp_path):
    made = builders.package("bert", [builders.lora(("attn_q",), dora="adapterhub")], None, 5)
    path = stored(tmp_path, made)
    backbone = builders.backbone("bert")
    ours = Loader(backbone.profile, torch.float32, backbone.base_maps).load(REF, path)
    blind = Loader(backbone.profile, torch.float32).load(REF, path)
    assert ours.flat.shape == blind.flat.shape
    assert not torch.allclose(ours.flat, blind.flat)


def test_bytes_that_are_no_package_are_refused(loader, tmp_path):
    path = tmp_path / "package"
    path.write_bytes(b"not a package at all")
    with pytest.raises(InvalidPackage):
        loader.load(REF, path)


def test_an_unknown_size_counts_as_nothing_and_old_sizes_are_forgotten(loader, tmp_path, monkeypatch):
    monkeypatch.setattr(loading, "MAX_KNOWN", 2)
    path = stored(tmp_path, package(1))
    refs = [AdapterRef("a", "x", 1, f"sha256:{i}") for i in range(3)]
    for ref in refs:
        loader.load(ref, path)
    sizes = loader.device_bytes(refs)
    assert sizes[refs[0]] == 0
    assert sizes[refs[1]] == sizes[refs[2]] > 0


def test_a_vocabulary_moves_bytes_though_it_takes_none_on_the_device(loader, tmp_path):
    words, task = (AdapterRef("a", name, 1, f"sha256:{name}") for name in ("words", "task"))
    loader.load(words, stored(tmp_path, builders.embedding_package("bert")))
    loader.load(task, stored(tmp_path, package(1)))
    assert loader.device_bytes([words]) == {words: 0}
    assert loader.moved(words) > 0
    assert loader.moved(task) == loader.device_bytes([task])[task]
    assert loader.moved(AdapterRef("a", "unknown", 1, "sha256:u")) == 0
