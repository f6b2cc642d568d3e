"""The Python door on a backbone that sees images: the same verbs, with `pixel_values` in place of token ids."""

import pytest
import torch
from torch.nn import functional
from transformers import AutoModel, set_seed

from adapters.door.blocks import BatchSplit
from adapters.errors import InvalidRow
from adapters.model import AdapterModel
from tests.adapters import builders


def images(count: int = 3) -> torch.Tensor:
    return torch.randn(count, 2, 8, 12, generator=torch.Generator().manual_seed(4))


def model() -> AdapterModel:
    return AdapterModel.from_pretrained(builders.folder("vit"))


def test_the_bare_backbone_answers_what_transformers_does():
    plain = AutoModel.from_pretrained(builders.folder("vit"), attn_implementation="eager").eval()
    with torch.no_grad():
        wanted = plain(images()).last_hidden_state
    found = model()(pixel_values=images(), adapter_names=[]).last_hidden_state
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("method", ["lora", "double_seq_bn", "prefix_tuning_flat", "loreft", "ia3", "prompt_tuning"])
def test_an_adapter_learns_images_and_comes_back_from_its_folder(tmp_path, method):
    set_seed(1)
    held, labels = model(), torch.tensor([0, 2, 1])
    held.add_adapter("a", config=method)
    held.add_image_classification_head("a", num_labels=3, id2label={0: "cat", 1: "dog", 2: "bee"})
    held.train_adapter("a")
    steps = torch.optim.Adam([p for p in held.parameters() if p.requires_grad], lr=0.02)
    losses = []
    for _ in range(15):
        loss = held(pixel_values=images(), labels=labels, adapter_names=["a"]).loss
        losses.append(float(loss.detach()))
        loss.backward()
        steps.step()
        steps.zero_grad()
    assert losses[-1] < 0.5 * losses[0]
    logits = held(pixel_values=images(), adapter_names=["a"]).logits.detach()
    assert float(functional.cross_entropy(logits, labels)) < losses[0]
    held.save_adapter(str(tmp_path / "a"), "a")
    again = model()
    again.load_adapter(str(tmp_path / "a"))
    torch.testing.assert_close(again(pixel_values=images(), adapter_names=["a"]).logits.detach(), logits)


@pytest.mark.parametrize("combine", ["prefix", "prefix_after_bos"])
def test_a_prompt_stands_between_the_patches_as_in_adapterhub(combine):
    """ViTModel's layers over what AdapterHub's hook makes of the embeddings' output (adapters 1.3.0)."""
    held = model()
    held.add_adapter("a", config=f"prompt_tuning[combine={combine},prompt_length=3]")
    held.add_adapter("b", config="lora")
    held.train_adapter("a")
    (prompt,) = (parameter for parameter in held.parameters() if parameter.requires_grad)
    with torch.no_grad():
        prompt.copy_(torch.randn(3, builders.HIDDEN, generator=torch.Generator().manual_seed(5)))
    plain = AutoModel.from_pretrained(builders.folder("vit"), attn_implementation="eager").eval()

    def put_in(_module, _args, x):
        at = 0 if combine == "prefix" else 1
        return torch.cat([x[:, :at], prompt.expand(len(x), -1, -1), x[:, at:]], dim=1)

    plain.embeddings.register_forward_hook(put_in)
    with torch.no_grad():
        wanted = plain(images()).last_hidden_state
        found = held(pixel_values=images(), adapter_names=BatchSplit("a", "b", "a", batch_sizes=1)).last_hidden_state
        bare = held(pixel_values=images(), adapter_names=[]).last_hidden_state
    own = [0, *range(4, 10)] if combine == "prefix_after_bos" else range(3, 10)
    assert wanted.shape[1] == 10
    expected = torch.stack([wanted[0, own], bare[1], wanted[2, own]])  # a fresh LoRA changes nothing
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({}, "reads images: give pixel_values"),
        ({"input_ids": torch.ones(1, 4).long()}, "reads images: give pixel_values"),
        ({"pixel_values": images(), "attention_mask": torch.ones(3, 7)}, "nothing of texts"),
        ({"pixel_values": images()[0]}, r"must be floating point \[rows, channels, height, width\]"),
        ({"pixel_values": images().long()}, "must be floating point"),
        ({"pixel_values": images()[:0]}, "must be floating point"),
        ({"pixel_values": images()[:, :1]}, r"the image is \[1, 8, 12\]"),
    ],
)
def test_what_is_no_batch_of_images_is_refused(given, reason):
    with pytest.raises(InvalidRow, match=reason):
        model()(**given, adapter_names=[])


@pytest.mark.parametrize("given", [{}, {"pixel_values": images()}])
def test_a_backbone_of_text_takes_no_images(given):
    with pytest.raises(InvalidRow, match="reads text: give input_ids"):
        AdapterModel.from_pretrained(builders.folder("bert"))(**given, adapter_names=[])
