import json

import pytest
import torch
from safetensors.torch import load_file

from adapters.errors import Misfit
from adapters.formats import native
from adapters.formats.check import check
from adapters.formats.peft import folder as peft
from adapters.formats.peft.layouts import LAYOUTS
from adapters.methods.table import METHODS
from tests.adapters.formats.folders import H, attention, profile, write
from tests.adapters.formats.peft.reading import assert_same, reasons, sites

PATHS = attention("query", "value", prefix="")
RANDOM = {"A": (2, 1, H), "B": (H, 4, 2)}
# peft_type -> the configuration's own members, a module's tensors, what all share, and the settings of a site.
CASES = {
    "ADALORA": (
        {"init_r": 5, "lora_alpha": 3, "target_r": 2, "rank_pattern": {"a": [True]}},
        {"lora_A": (3, H), "lora_E": (3, 1), "lora_B": (H, 3)},
        {},
        {"init_rank": 5, "alpha": 3, "rank": 3},
    ),
    "BOFT": (
        {"boft_block_size": 4, "boft_block_num": 0, "boft_n_butterfly_factor": 1},
        {"boft_R": (1, 2, 4, 4), "boft_s": (H, 1)},
        {},
        {"block": 4, "factors": 1},
    ),
    "C3A": ({"block_size": 4, "block_size_pattern": {"key": 2}}, {"c3a_kernel": (2, 2, 4)}, {}, {"block": 4}),
    "DELORA": (
        {"r": 3, "delora_lambda": 9},
        {"delora_A": (3, H), "delora_B": (H, 3), "delora_lambda": (1,), "delora_w_norm": (H,)},
        {},
        {"rank": 3},
    ),
    "FOURIERFT": (
        {"n_frequency": 6, "scaling": 2.5},
        {"fourierft_spectrum": (6,)},
        {},
        {"count": 6, "scaling": 2.5, "seed": 777},
    ),
    "GRALORA": (
        {"r": 4, "gralora_k": 2, "alpha": 8, "hybrid_r": 1},
        {
            "gralora_A": (2, H // 2, 4),
            "gralora_B": (2, 4, H // 2),
            "gralora_A_general.weight": (1, H),
            "gralora_B_general.weight": (H, 1),
        },
        {},
        {"blocks": 2, "rank": 4, "alpha": 8, "general_rank": 1},
    ),
    "HIRA": ({"r": 9, "rank_pattern": {"query": 2}}, {"hira_A": (3, H), "hira_B": (H, 3)}, {}, {"rank": 3}),
    "HRA": ({"r": 3, "apply_GS": True}, {"hra_u": (H, 3)}, {}, {"rank": 3, "orthogonal": True}),
    "LOHA": (
        {"r": 2, "alpha": 6},
        {"hada_w1_a": (H, 2), "hada_w1_b": (2, H), "hada_w2_a": (H, 2), "hada_w2_b": (2, H)},
        {},
        {"rank": 2, "alpha": 6},
    ),
    "LOKR": (
        {"r": 1, "alpha": 6},
        {"lokr_w1": (2, 2), "lokr_w2_a": (4, 1), "lokr_w2_b": (1, 4)},
        {},
        {"rank": 1, "alpha": 6, "both": False, "factor": -1},
    ),
    "MISS": (
        {"r": 2, "mini_r": 4, "init_weights": "mini"},
        {"miss_block": (2, 4)},
        {},
        {"rank": 2, "mini_rank": 4, "kind": "mini"},
    ),
    "OFT": (
        {"r": 0, "oft_block_size": 3, "use_cayley_neumann": True, "num_cayley_neumann_terms": 4, "coft": False},
        {"oft_R.weight": (2, 6)},
        {},
        {"shared": False, "block": 4, "terms": 4, "eps": 0.0},
    ),
    "RANDLORA": (
        {"r": 2, "randlora_alpha": 6},
        {
            "randlora_lambda": (2, 4),
            "randlora_gamma": (4, H),
            "randlora_A": RANDOM["A"],
            "randlora_B": RANDOM["B"],
        },
        {"randlora_A": RANDOM["A"], "randlora_B": RANDOM["B"]},
        {"rank": 2, "alpha": 6, "stored": True, "seed": 0, "random": "dense"},
    ),
    "ROAD": (
        {"variant": "road_2", "group_size": 4},
        {"road_theta": (H,), "road_alpha": (H,)},
        {},
        {"variant": "road_2", "group": 4},
    ),
    "SHIRA": (
        {"r": 1, "mask_type": "random"},
        {"shira_weight": (2 * H,), "shira_indices": (2, 2 * H)},
        {},
        {"rank": 1},
    ),
    "VBLORA": (
        {"r": 2, "num_vectors": 5, "vector_length": 4, "topk": 2, "save_only_topk_weights": True},
        {
            "vblora_logits_A_topk_indices": (2, 2, 2),
            "vblora_logits_A_topk_weights": (2, 2, 1),
            "vblora_logits_B_topk_indices": (2, 2, 2),
            "vblora_logits_B_topk_weights": (2, 2, 1),
        },
        {"vblora_vector_bank": (5, 4)},
        {"rank": 2, "vectors": 5, "length": 4, "best": 2, "best_only": True},
    ),
    "VERA": (
        {"r": 3, "projection_prng_key": 4, "save_projection": False},
        {"vera_lambda_d": (3,), "vera_lambda_b": (H,)},
        {},
        {"rank": 3, "stored": False, "seed": 4},
    ),
    "WAVEFT": (
        {"n_frequency": 99, "proportional_parameters": True, "wavelet_family": "sym3"},
        {"waveft_spectrum": (6,)},
        {},
        {"count": 6, "scaling": 25.0, "seed": 777, "synthesis": True, "wavelet": "sym3"},
    ),
}
INTEGERS = {"shira_indices": torch.int32, "vblora_logits_A_topk_indices": torch.uint8}
INTEGERS["vblora_logits_B_topk_indices"] = torch.uint8


def config(kind, **changes):
    members = CASES[kind][0]
    return {
        "peft_type": kind,
        "peft_version": "0.21.2",
        "task_type": "FEATURE_EXTRACTION",
        "target_modules": ["query", "value"],
        "bias": "none",
        "init_weights": None if kind in ("ADALORA", "VBLORA") else True,
        **members,
        **changes,
    }


def tensors(kind):
    _, own, shared, _ = CASES[kind]
    generator = torch.Generator().manual_seed(3)
    held = {f"base_model.{name}": torch.randn(shape, generator=generator) for name, shape in shared.items()}
    for path in PATHS:
        for name, shape in own.items():
            key = f"base_model.model.{path}.{name}"
            if name in INTEGERS:
                held[key] = torch.randint(0, 5, shape, generator=generator).to(INTEGERS[name])
            elif name in shared:
                held[key] = held[f"base_model.{name}"].clone()
            else:
                held[key] = torch.randn(shape, generator=generator)
    return held


def folder(where, kind, held=None, **changes):
    held = tensors(kind) if held is None else held
    return write(where, "adapter_model.safetensors", "adapter_config.json", config(kind, **changes), held)


def test_every_layout_is_tested_here_and_has_its_method():
    assert set(CASES) == set(LAYOUTS)
    assert all(layout.method in METHODS for layout in LAYOUTS.values())


@pytest.mark.parametrize("kind", CASES)
def test_a_folder_reads_fits_and_is_written_again_as_it_was(kind, tmp_path):
    source = folder(tmp_path / "in", kind)
    package = peft.read(source, profile())
    assert sites(package) == dict.fromkeys(("0/attn_q", "0/attn_v", "1/attn_q", "1/attn_v"), CASES[kind][3])
    check(package, profile())
    package = native.read(native.write(package))
    peft.write(package, tmp_path / "out")
    assert json.loads((tmp_path / "out" / "adapter_config.json").read_text()) == config(kind)
    before, after = (load_file(path / "adapter_model.safetensors") for path in (source, tmp_path / "out"))
    assert before.keys() == after.keys()
    for key, tensor in before.items():
        assert after[key].dtype == tensor.dtype
        assert torch.equal(after[key], tensor)
    assert_same(package, peft.read(tmp_path / "out", profile()))


@pytest.mark.parametrize("kind", CASES)
def test_a_setting_of_no_tuner_and_a_tensor_of_another_are_refused(kind, tmp_path):
    (reason,) = reasons(folder(tmp_path / "setting", kind, new_trick=1))
    assert "'new_trick' is not known" in reason
    more = {f"base_model.model.{PATHS[0]}.{LAYOUTS[kind].stem}new": torch.ones(2)}
    found = reasons(folder(tmp_path / "tensor", kind, tensors(kind) | more))
    assert any("belongs to a feature that is not served yet" in reason for reason in found)


@pytest.mark.parametrize(
    ("kind", "changes", "settings"),
    [
        ("MISS", {"init_weights": True}, {"kind": "plain"}),
        ("MISS", {"init_weights": "bat"}, {"kind": "bat"}),
        ("OFT", {"use_cayley_neumann": False}, {"terms": 0}),
        ("OFT", {"coft": True, "eps": 0.5, "block_share": True}, {"eps": 0.5, "shared": True}),
        ("RANDLORA", {"sparse": True}, {"random": "sparse"}),
        ("RANDLORA", {"sparse": True, "very_sparse": True}, {"random": "very_sparse"}),
        ("LOHA", {"rank_pattern": {"query": 4}, "alpha_pattern": {"value": 1}}, {"rank": 4, "alpha": 6}),
        ("FOURIERFT", {"n_frequency_pattern": {".*query": 9}, "random_loc_seed": 1}, {"count": 9, "seed": 1}),
    ],
)
def test_settings_follow_the_configuration(kind, changes, settings, tmp_path):
    found = sites(peft.read(folder(tmp_path, kind, **changes), profile()))["0/attn_q"]
    assert {name: found[name] for name in settings} == settings


def test_a_size_that_the_configuration_contradicts_does_not_fit(tmp_path):
    package = peft.read(folder(tmp_path, "HRA", r=4), profile())
    with pytest.raises(Misfit, match=r"0/attn_q/u has the shape \[8, 3\]"):
        check(package, profile())


def test_matrices_that_were_said_to_be_stored_and_are_not_are_missed(tmp_path):
    package = peft.read(folder(tmp_path, "VERA", save_projection=True), profile())
    with pytest.raises(Misfit, match="model/vera_vectors/A"):
        check(package, profile())


def test_modules_that_lost_their_rank_are_kept_and_written_empty(tmp_path):
    held = tensors("ADALORA")
    for name, shape in (("lora_A", (0, H)), ("lora_E", (0, 1)), ("lora_B", (H, 0))):
        held[f"base_model.model.{PATHS[0]}.{name}"] = torch.zeros(shape)
    package = peft.read(folder(tmp_path / "in", "ADALORA", held), profile())
    assert sites(package)["0/attn_q"]["rank"] == 0
    check(package, profile())
    package = native.read(native.write(package))
    peft.write(package, tmp_path / "out")
    after = load_file(tmp_path / "out" / "adapter_model.safetensors")
    assert {key: t.shape for key, t in after.items()} == {key: t.shape for key, t in held.items()}
