import pytest

from adapters.formats.check import check
from adapters.formats.peft import folder as peft
from tests.adapters.formats.folders import CLASSIFIER, LAYERS, H, peft_config, peft_folder, profile
from tests.adapters.formats.peft.reading import assert_same, reasons, sites
from tests.adapters.formats.peft.test_prompts import unlabelled

CONFIG = peft_config(peft_type="LN_TUNING", r=None, lora_alpha=None, target_modules=["LayerNorm"])
PATHS = [
    "embeddings.LayerNorm",
    *(f"encoder.layer.{i}.{path}.LayerNorm" for i in range(LAYERS) for path in ("attention.output", "output")),
]
KEYS = {f"base_model.model.bert.{path}.ln_tuning_layers.{name}": (H,) for path in PATHS for name in ("weight", "bias")}


def test_every_norm_is_read_and_written_again(tmp_path):
    package = peft.read(peft_folder(tmp_path / "in", CONFIG, KEYS | CLASSIFIER), profile())
    check(package, profile())
    assert set(sites(package)) == {
        "model/embed_norm",
        *(f"{i}/{s}_norm" for i in range(LAYERS) for s in ("attn", "ffn")),
    }
    assert sites(package)["1/ffn_norm"] == {"weight": True, "bias": True}
    peft.write(package, tmp_path / "same")
    assert_same(package, peft.read(tmp_path / "same", profile()))
    peft.write(unlabelled(package), tmp_path / "new")
    assert peft.read(tmp_path / "new", profile()).manifest.parts == package.manifest.parts


@pytest.mark.parametrize(
    ("config", "keys", "reason"),
    [
        (
            CONFIG,
            {key: shape for key, shape in KEYS.items() if "embeddings" not in key} | CLASSIFIER,
            "lacks bert.embeddings.LayerNorm",
        ),
        (CONFIG | {"target_modules": ["dense"]}, KEYS | CLASSIFIER, "target_modules does not name it"),
        (
            CONFIG,
            KEYS | CLASSIFIER | {"base_model.model.bert.pooler.dense.ln_tuning_layers.bias": (H,)},
            "belongs to no norm that is served",
        ),
    ],
)
def test_norms_and_configuration_must_agree(tmp_path, config, keys, reason):
    assert any(reason in one for one in reasons(peft_folder(tmp_path, config, keys)))
