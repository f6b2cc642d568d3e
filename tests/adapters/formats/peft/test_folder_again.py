from dataclasses import replace

import pytest
import torch

from adapters.errors import Misfit
from adapters.formats.adapterhub import folder as adapterhub
from adapters.formats.peft import folder as peft
from adapters.manifest import HeadSpec, Manifest, PartSpec, Provenance
from adapters.requires import Requires
from adapters.weights import Package
from tests.adapters.formats import folders
from tests.adapters.formats.folders import H, profile

REQUIRES = Requires("bert", H, 2, 2)
HEAD = HeadSpec("classification", 2, "tanh", True, "first_token", ("x", "y"), "single_label")
HEAD_TENSORS = {
    "head/0/weight": torch.randn(H, H),
    "head/0/bias": torch.randn(H),
    "head/1/weight": torch.randn(2, H),
    "head/1/bias": torch.randn(2),
}


def lora(sites, head=None):
    tensors = {} if head is None else dict(HEAD_TENSORS)
    for site, held in sites.items():
        tensors |= {f"{site}/lora_A": torch.randn(held["rank"], H), f"{site}/lora_B": torch.randn(H, held["rank"])}
    return Package(Manifest("adapter", REQUIRES, (PartSpec("lora", {"sites": sites}),), head=head), tensors)


def site(rank, scaling, bias=False):
    return {"rank": rank, "scaling": scaling, "bias": bias}


def test_ranks_and_scalings_that_differ_become_patterns_that_read_back(tmp_path):
    package = lora({"0/attn_q": site(2, 8.0), "1/attn_q": site(3, 0.5), "1/attn_v": site(2, 1.5)}, HEAD)
    peft.write(package, tmp_path)
    back = peft.read(tmp_path, profile(), labels=["x", "y"])
    assert back.manifest.parts == package.manifest.parts
    assert back.manifest.head == package.manifest.head
    assert set(back.tensors) == set(package.tensors)
    assert all(torch.equal(tensor, back.tensors[name]) for name, tensor in package.tensors.items())


def test_an_adapterhub_ia3_with_alpha_becomes_vectors_without(tmp_path):
    sites = {f"{i}/attn_k": {"at": "output", "scaling": 3.0} for i in range(2)}
    scale = torch.randn(H)
    package = Package(
        Manifest("adapter", REQUIRES, (PartSpec("ia3", {"sites": sites}),)),
        dict.fromkeys((f"{s}/scale" for s in sites), scale),
    )
    peft.write(package, tmp_path)
    back = peft.read(tmp_path, profile())
    assert torch.equal(back.tensors["0/attn_k/scale"], scale * 3)
    assert back.manifest.parts[0].config["sites"]["0/attn_k"]["scaling"] == 1.0


def test_a_configuration_that_no_longer_says_what_the_parts_say_is_not_written(tmp_path):
    package = lora({"0/attn_q": site(2, 8.0), "1/attn_q": site(2, 8.0)})
    lie = folders.peft_config(target_modules=["query"], task_type="FEATURE_EXTRACTION", lora_alpha=1)
    manifest = replace(package.manifest, provenance=Provenance("peft", "0"), source={"adapter_config": lie})
    peft.write(Package(manifest, package.tensors), tmp_path)
    assert peft.read(tmp_path, profile()).manifest.parts == package.manifest.parts


@pytest.mark.parametrize(
    "head",
    [
        replace(HEAD, activation="gelu"),
        replace(HEAD, bias=False),
        replace(HEAD, layers=3),
        replace(HEAD, pooling="pooler"),
    ],
)
def test_a_head_like_no_class_s_is_refused(tmp_path, head):
    with pytest.raises(Misfit, match="transformers' own classes"):
        peft.write(lora({"0/attn_q": site(2, 1.0)}, head), tmp_path)


def test_biases_in_some_modules_only_are_refused(tmp_path):
    package = lora({"0/attn_q": site(2, 1.0), "1/attn_q": site(2, 1.0, bias=True)})
    tensors = dict(package.tensors) | {"1/attn_q/lora_bias": torch.zeros(H)}
    with pytest.raises(Misfit, match="bias"):
        peft.write(Package(package.manifest, tensors), tmp_path)


@pytest.mark.parametrize("more", [{"gated": True}, {"dora": "adapterhub"}])
def test_what_peft_has_no_keys_for_is_refused(tmp_path, more):
    with pytest.raises(Misfit, match="PEFT"):
        peft.write(lora({"0/attn_q": site(2, 8.0) | more}), tmp_path)


def test_dora_in_some_modules_only_is_refused(tmp_path):
    package = lora({"0/attn_q": site(2, 8.0), "1/attn_q": site(2, 8.0) | {"dora": "peft"}})
    more = Package(package.manifest, dict(package.tensors) | {"1/attn_q/magnitude": torch.ones(H)})
    with pytest.raises(Misfit, match="DoRA in all modules or in none"):
        peft.write(more, tmp_path)


def test_methods_and_kinds_that_peft_does_not_hold_are_refused(tmp_path):
    bottleneck = adapterhub.read(folders.seq_bn_folder(tmp_path / "in"), profile())
    with pytest.raises(Misfit, match="PEFT has no bottleneck"):
        peft.write(bottleneck, tmp_path / "out")
    with pytest.raises(Misfit, match="an adapter of"):
        peft.write(Package(Manifest("head", REQUIRES, head=HEAD), HEAD_TENSORS), tmp_path / "out")
    assert not (tmp_path / "out").exists()
