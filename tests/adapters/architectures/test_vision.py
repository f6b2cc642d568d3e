"""ViT: rows of pixels, run side by side as transformers runs each alone; its keys; what it refuses."""

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModel

from adapters.architectures.geometry import read_geometry
from adapters.architectures.profile import BackboneProfile
from adapters.architectures.sites import Address
from adapters.architectures.vision import VIT
from adapters.batch.rows import Pixels, Row, image_ids
from adapters.errors import InvalidRows, Misfit, UnknownArchitecture
from adapters.formats import recognise
from adapters.formats.adapterhub import folder as adapterhub
from adapters.formats.peft import folder as peft
from adapters.manifest import HeadSpec, PartSpec
from adapters.weights import Resident
from tests.adapters import builders

HEAD = HeadSpec("classification", 2, "tanh", True, "first_token", ("cat", "dog", "bee"), "single_label", name="adapter")
STATIC = HeadSpec("classification", 1, None, True, "first_token", ("LABEL_0", "LABEL_1"), "single_label")
SIZES = {"model_type": "vit", "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}


def pixels(seed: int) -> Pixels:
    return np.random.default_rng(seed).standard_normal((2, 8, 12)).astype(np.float32)


def row(image: Pixels | None, *members: Resident, **changes: Any) -> Row:
    head = members[0] if members and members[0].adapter.head else None
    plain = Row(members, head, None, image_ids(builders.profile("vit").geometry), pixels=image)
    return replace(plain, **changes)


def plain(image: Pixels) -> torch.Tensor:
    model = AutoModel.from_pretrained(builders.folder("vit"), attn_implementation="eager").eval()
    with torch.no_grad():
        return model(torch.from_numpy(image)[None]).last_hidden_state[0]


def residents(*parts: PartSpec) -> list[Resident]:
    return builders.in_one_arena([builders.adapter("vit", [p], HEAD, seed=i) for i, p in enumerate(parts)])


def test_images_in_one_batch_are_what_transformers_computes_of_each_alone():
    images = [pixels(seed) for seed in range(4)]
    outputs = builders.backbone("vit").run([row(image) for image in images], ["hidden_state"] * 4)
    for image, output in zip(images, outputs, strict=True):
        assert output.shape == (7, builders.HIDDEN)
        torch.testing.assert_close(output, plain(image), atol=1e-5, rtol=1e-4)


def test_images_of_many_adapters_share_a_batch_and_answer_as_each_alone():
    held = residents(
        builders.lora(("attn_q", "attn_v", "ffn_in")),
        builders.bottleneck(("attn_junction", "ffn_junction")),
        builders.reft(),
    )
    rows = [row(pixels(i), held[i % 3]) for i in range(6)] + [row(pixels(6))]
    want = ["logits"] * 6 + ["hidden_state"]
    together = builders.backbone("vit").run(rows, want)
    for one, what, output in zip(rows, want, together, strict=True):
        (alone,) = builders.backbone("vit").run([one], [what])
        torch.testing.assert_close(output, alone, atol=1e-5, rtol=1e-4)
    assert [tuple(output.shape) for output in together] == [(3,)] * 6 + [(7, builders.HIDDEN)]


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"pixels": None}, "has no pixels"),
        ({"pixels": np.zeros((3, 8, 12), np.float32)}, r"the image is \[3, 8, 12\]; .* \[2, 8, 12\]"),
        ({"input_ids": np.zeros(3, np.int64)}, "an image is a row of 7 tokens"),
    ],
)
def test_rows_that_are_no_image_of_the_backbones_size_are_refused(wrong, reason):
    with pytest.raises(InvalidRows, match=reason):
        builders.backbone("vit").run([row(pixels(0), **wrong)], ["hidden_state"])


def test_an_image_for_a_backbone_of_text_is_refused():
    one = Row((), None, None, builders.ids(1, 5), pixels=pixels(0))
    with pytest.raises(InvalidRows, match="reads text: send token ids"):
        builders.backbone("bert").run([one], ["hidden_state"])


@pytest.mark.parametrize("part", [builders.lora(("attn_q", "ffn_out")), builders.bottleneck(), builders.reft()])
def test_adapterhub_folders_have_the_paths_of_transformers_4_and_read_back(tmp_path, part):
    made = builders.package("vit", [part], HEAD)
    adapterhub.write(made, tmp_path)
    config = json.loads((tmp_path / "head_config.json").read_text())["config"]
    assert (config["head_type"], config["multilabel"]) == ("image_classification", False)
    again = recognise.read(tmp_path, builders.profile("vit"))
    assert again.manifest.head == HEAD
    assert all(torch.equal(tensor, again.tensors[name]) for name, tensor in made.tensors.items())


def test_a_multilabel_head_of_images_reads_back(tmp_path):
    spec = replace(HEAD, type="multilabel_classification", problem_type="multi_label")
    adapterhub.write(builders.package("vit", [builders.lora()], spec), tmp_path)
    assert recognise.read(tmp_path, builders.profile("vit")).manifest.head == spec


@pytest.mark.parametrize("spelling", ["layers.{}.attention.q_proj", "encoder.layer.{}.attention.attention.query"])
def test_peft_folders_of_either_spelling_are_read(tmp_path, spelling):
    made = builders.package("vit", [builders.lora(("attn_q",))], STATIC)
    peft.write(made, tmp_path)
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    assert config["auto_mapping"]["base_model_class"] == "ViTForImageClassification"
    stored = peft.files.read_tensors(tmp_path, peft.WEIGHTS)
    renamed = {key.replace("layers.0.attention.q_proj", spelling.format(0)): value for key, value in stored.items()}
    renamed = {key.replace("layers.1.attention.q_proj", spelling.format(1)): value for key, value in renamed.items()}
    peft.files.write_tensors(tmp_path / peft.WEIGHTS, renamed)
    (tmp_path / "adapter_config.json").write_text(
        json.dumps({**config, "target_modules": [spelling.rsplit(".", 1)[-1]]})
    )
    again = recognise.read(tmp_path, builders.profile("vit"))
    assert all(torch.equal(tensor, again.tensors[name]) for name, tensor in made.tensors.items())
    assert again.manifest.head == STATIC


def test_a_vocabulary_is_refused():
    with pytest.raises(Misfit, match="no use for a vocabulary"):
        builders.expected(builders.embedding_package("vit").manifest, builders.profile("vit"))


def test_sizes_may_be_numbers_or_pairs_and_have_the_familys_defaults():
    usual = read_geometry(SIZES)
    assert (usual.image, usual.max_tokens, usual.vocabulary) == ((3, 224, 224), 197, 0)
    assert read_geometry({**SIZES, "image_size": [8, 20], "patch_size": 4, "num_channels": 1}).image == (1, 8, 20)
    held = builders.profile("vit")
    assert BackboneProfile.from_json(held.to_json()) == held


@pytest.mark.parametrize(
    ("member", "value"), [("image_size", "big"), ("patch_size", [4, 0]), ("num_channels", 0), ("pooler_act", "relu")]
)
def test_configurations_that_the_record_does_not_hold_for_are_refused(member, value):
    with pytest.raises(UnknownArchitecture, match=member):
        read_geometry({**SIZES, member: value})


def test_the_former_spelling_differs_in_paths_alone():
    assert VIT.formerly.former is VIT.former
    assert VIT.formerly.layer_path(3) == "encoder.layer.3"
    assert VIT.formerly.junctions == VIT.junctions


@pytest.mark.parametrize("site", list(VIT.linear))
def test_both_spellings_of_a_site_mean_the_same_map(site):
    """AdapterHub's path is that of the published checkpoints, which transformers still writes."""
    stored = load_file(builders.folder("vit") / "model.safetensors")
    for layer in range(builders.LAYERS):
        address = Address(layer, site)
        wanted = stored[f"{VIT.formerly.linear_path(address)}.weight"]
        assert torch.equal(builders.backbone("vit").base_maps(address).weight, wanted)


@pytest.mark.parametrize("address", [Address(1, "attn_norm"), Address(0, "ffn_norm"), Address(None, "final_norm")])
def test_its_norms_are_sites_under_either_spelling(address):
    stored = load_file(builders.folder("vit") / "model.safetensors")
    assert torch.equal(
        builders.backbone("vit").base_maps(address).weight, stored[f"{VIT.formerly.own_norm_path(address)}.weight"]
    )
