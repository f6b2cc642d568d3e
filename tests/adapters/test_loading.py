import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import AutoConfig
from transformers.activations import NewGELUActivation
from transformers.pytorch_utils import Conv1D

from adapters.backbone import Backbone
from adapters.batch.rows import Row
from adapters.errors import UnknownArchitecture
from adapters.loading import Dense, generation_settings, quicken
from tests.adapters import builders


def test_a_checkpoint_that_lacks_weights_is_refused_and_a_missing_pooler_is_known(tmp_path):
    for name in ("config.json",):
        (tmp_path / name).write_bytes((builders.folder("bert") / name).read_bytes())
    weights = load_file(builders.folder("bert") / "model.safetensors")
    kept = {name: tensor for name, tensor in weights.items() if not name.startswith("pooler.")}
    save_file(kept, tmp_path / "model.safetensors", metadata={"format": "pt"})
    assert not Backbone.load(tmp_path).profile.has_pooler
    kept.pop("encoder.layer.0.attention.self.query.weight")
    save_file(kept, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UnknownArchitecture, match="query"):
        Backbone.load(tmp_path)


@pytest.mark.parametrize("family", builders.FAMILIES)
def test_bfloat16_rounds_the_maps_and_the_words_and_leaves_the_norms(family):
    exact, rounded = builders.backbone(family), Backbone.load(builders.folder(family), dtype=torch.bfloat16)
    assert rounded.dtype is torch.bfloat16
    for name, module in rounded.model.named_modules():
        wanted = torch.float32 if isinstance(module, torch.nn.LayerNorm) else torch.bfloat16
        if isinstance(module, torch.nn.LayerNorm | torch.nn.Linear):
            assert {parameter.dtype for parameter in module.parameters()} <= {wanted}, name
    rows = [Row((), None, None, builders.ids(seed, 4 + seed)) for seed in range(6)]
    states = zip(*(backbone.run(rows, ["hidden_state"] * 6) for backbone in (exact, rounded)), strict=True)
    for one, other in states:
        assert float(torch.nn.functional.cosine_similarity(one, other, dim=-1).min()) > 0.998


def test_float64_is_wider_everywhere():
    backbone = Backbone.load(builders.folder("bert"), dtype=torch.float64)
    assert {parameter.dtype for parameter in backbone.model.parameters()} == {torch.float64}


@torch.inference_mode()
def test_a_quick_model_has_the_plain_ones_maps_and_activations():
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Linear(8, 24), NewGELUActivation(), Conv1D(4, 24)).requires_grad_(requires_grad=False)
    nn.init.normal_(plain[2].bias)
    x = torch.randn(5, 8)
    expected, stored = plain(x), plain[0].weight
    quicken(plain)
    assert [type(module) for module in plain] == [Dense, nn.GELU, Dense]
    assert plain[0].weight is stored
    assert plain[2].weight.shape == (4, 24)
    torch.testing.assert_close(plain(x), expected)


def test_settings_of_generation_that_can_not_be_read_are_told(tmp_path):
    path = tmp_path / "gpt2"
    shutil.copytree(builders.folder("gpt2"), path)
    config = AutoConfig.from_pretrained(path)
    assert (generation_settings(config).max_new_tokens, generation_settings(config).num_beams) == (None, None)
    said = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps(said | {"num_beams": 4}))
    assert generation_settings(config).num_beams == 4
    (path / "generation_config.json").write_text('{"max_new_tokens": 5}')
    assert generation_settings(config).max_new_tokens == 5
    (path / "generation_config.json").write_text("{")
    with pytest.raises(UnknownArchitecture, match=r"generation_config\.json"):
        generation_settings(config)
