import json

import pytest
import torch
from safetensors.torch import load_file

from adapters.errors import Misfit
from adapters.formats.check import check
from adapters.formats.peft import folder as peft
from adapters.formats.peft.lora_variants import plain, start_of
from tests.adapters.formats.folders import attention, peft_config, peft_folder, peft_lora_keys, profile
from tests.adapters.formats.peft.reading import FEATURE, assert_same, reasons
from tests.adapters.formats.peft.test_prompts import unlabelled

PATHS = attention("query", prefix="")
ROOT = "base_model.model."
KEYS = peft_lora_keys(PATHS, rank=4)


def config(**said):
    return peft_config(r=4, target_modules=["query"], **FEATURE, **said)


def read(place, said, keys):
    return peft.read(peft_folder(place, said, keys), profile())


@pytest.mark.parametrize(
    ("setting", "held", "extra"),
    [
        ("velora_config", {"num_groups": 4, "scale": 1.0, "init_type": "random"}, "lora_velora_embed"),
        ("monteclora_config", {"num_samples": 2}, "lora_monteclora_sampler.std_prior"),
    ],
)
def test_what_counts_in_training_alone_is_left_out(tmp_path, setting, held, extra):
    keys = KEYS | {f"{ROOT}{path}.{extra}": (7,) for path in PATHS}
    package = read(tmp_path / "in", config(**{setting: held}), keys)
    assert package.manifest.parts == read(tmp_path / "lora", config(), KEYS).manifest.parts
    check(package, profile())
    peft.write(package, tmp_path / "out")
    said = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert not said[setting]
    assert load_file(tmp_path / "out" / "adapter_model.safetensors").keys() == KEYS.keys()
    unsaid = reasons(peft_folder(tmp_path / "unsaid", config(), keys))
    assert any("belongs to a feature that is not served" in one for one in unsaid)


def test_the_start_from_the_least_singular_vectors_is_in_the_factors(tmp_path):
    package = read(tmp_path / "in", config(init_lora_weights="mica"), KEYS)
    assert package.manifest.parts == read(tmp_path / "lora", config(), KEYS).manifest.parts


@pytest.mark.parametrize(("side", "factor"), [("a", "lora_A"), ("b", "lora_B")])
def test_blocks_stand_on_a_diagonal(tmp_path, side, factor):
    narrow = {key: (shape[0], shape[1] // 2) if factor in key else shape for key, shape in KEYS.items()}
    blocks = {
        "target_modules_bd_a": None,
        "target_modules_bd_b": None,
        "nblocks": 2,
        f"target_modules_bd_{side}": ["que"],
    }
    place = peft_folder(tmp_path / "in", config(use_bdlora=blocks), narrow)
    held, package = load_file(place / "adapter_model.safetensors"), peft.read(place, profile())
    check(package, profile())
    stored, made = held[f"{ROOT}{PATHS[0]}.{factor}.weight"], package.tensors[f"0/attn_q/{factor}"]
    rows, columns = stored.shape
    assert made.shape == (rows, 2 * columns)
    assert torch.equal(made[: rows // 2, :columns], stored[: rows // 2])
    assert torch.equal(made[rows // 2 :, columns:], stored[rows // 2 :])
    assert not made[: rows // 2, columns:].any()
    assert not made[rows // 2 :, :columns].any()
    peft.write(package, tmp_path / "out")
    assert_same(package, peft.read(tmp_path / "out", profile()))
    assert not json.loads((tmp_path / "out" / "adapter_config.json").read_text())["use_bdlora"]


@pytest.mark.parametrize("count", [3, 0, "2", True, 257])
def test_blocks_that_do_not_fit_are_refused(count):
    said = {"peft_type": "LORA", "use_bdlora": {"target_modules_bd_a": ["query"], "nblocks": count}}
    with pytest.raises(Misfit, match="which are not"):
        plain(said, {"x.query.lora_A.weight": torch.zeros(257 if count == 257 else 4, 6)})
    assert plain(said, {"x.key.lora_A.weight": torch.zeros(4, 6)})[1]["x.key.lora_A.weight"].shape == (4, 6)


def test_other_folders_are_what_they_are():
    tensors = {"x.lora_A.weight": torch.zeros(1)}
    for said in ({"peft_type": "LORA"}, {"peft_type": "IA3", "use_bdlora": {"nblocks": 2}}):
        config, kept = plain(said, tensors)
        assert config is said
        assert kept is tensors


def test_kasa_scales_and_takes_out_the_least_of_the_map(tmp_path):
    said, keys = (
        config(kasa_config={"beta": 1e-4, "gamma": 1e-3}),
        KEYS | {f"{ROOT}{path}.lora_diag": (4,) for path in PATHS},
    )
    place = peft_folder(tmp_path / "in", said, keys)
    held, package = load_file(place / "adapter_model.safetensors"), peft.read(place, profile())
    assert package.manifest.parts[0].config["sites"]["0/attn_q"]["start"] == "kasa"
    path = f"{ROOT}{PATHS[0]}"
    want = held[f"{path}.lora_B.weight"] * held[f"{path}.lora_diag"]
    assert torch.equal(package.tensors["0/attn_q/lora_B"], want)
    for name, kept in (("same", package), ("new", unlabelled(package))):
        peft.write(kept, tmp_path / name)
        assert json.loads((tmp_path / name / "adapter_config.json").read_text())["kasa_config"]
        assert torch.equal(load_file(tmp_path / name / "adapter_model.safetensors")[f"{path}.lora_diag"], torch.ones(4))
        again = peft.read(tmp_path / name, profile())
        assert again.manifest.parts == package.manifest.parts
        assert torch.equal(again.tensors["0/attn_q/lora_B"], want)


def test_kasa_without_its_diagonal_is_refused(tmp_path):
    said = config(kasa_config={"beta": 1e-4, "gamma": 1e-3})
    keys = KEYS | {f"{ROOT}{path}.lora_diag": (4,) for path in PATHS[1:]}
    assert any("has no lora_diag" in one for one in reasons(peft_folder(tmp_path / "lacking", said, keys)))
    wrong = KEYS | {f"{ROOT}{path}.lora_diag": (3,) for path in PATHS}
    assert any("has no lora_diag" in one for one in reasons(peft_folder(tmp_path / "wrong", said, wrong)))


def test_the_start_is_what_is_said_or_what_the_variant_is():
    assert start_of({"init_lora_weights": "pissa"}) == "pissa"
    assert start_of({"init_lora_weights": True, "kasa_config": {"beta": 0.0}}) == "kasa"
    assert start_of({"kasa_config": None}) is None
