import json

import pytest
import torch
from safetensors.torch import load_file

from adapters.formats import native
from adapters.formats.check import check
from adapters.formats.peft import folder as peft
from adapters.formats.peft.newer_layouts import NEWER_LAYOUTS
from adapters.methods.table import METHODS
from tests.adapters.formats.folders import H, attention, profile, write
from tests.adapters.formats.peft.reading import assert_same, reasons, sites

PATHS = attention("query", "value", prefix="")
KINDS = ("self_query", "self_value")
FROD = {"frod_V": (H, H), "frod_s_indices": (2, 3), "frod_s_size": (2,)}
SITES = ("0/attn_q", "0/attn_v", "1/attn_q", "1/attn_v")
# peft_type -> the configuration's own members, a module's tensors, what all share, and the settings of a site.
CASES = {
    "BEFT": ({}, {"beft_bias": (1, H)}, {}, {}),
    "DEFT": (
        {"r": 99, "alpha": 6, "decomposition_method": "qr"},
        {"deft_P": (H, 3), "deft_R": (3, H)},
        {},
        {"rank": 3, "scaling": 2.0, "projection": "qr", "removes_only": False},
    ),
    "FROD": (
        {"sparse_rate": 0.1, "save_projection": True},
        {"frod_lambda_l": (H,), "frod_lambda_s_values": (3,)},
        {f"{name}.{kind}": shape for kind in KINDS for name, shape in FROD.items()},
        {"count": 3},
    ),
    "OSF": (
        {"effective_rank": 0.5, "rank_pattern": {"query": 5}},
        {"osf_svd_params.U_low": (H, 3), "osf_svd_params.S_low": (3,), "osf_svd_params.V_low": (3, H)},
        {},
        {"rank": 3},
    ),
    "PEANUT": (
        {"r": 2, "depth": 1, "act_fn": "gelu"},
        {
            "peanut_A.weight": (2, H),
            "peanut_B.weight": (H, 2),
            "peanut_encoders.0.weight": (2, 2),
            "peanut_decoders.0.weight": (2, 2),
        },
        {},
        {"rank": 2, "depth": 1, "activation": "gelu", "scaling": 1.0},
    ),
    "POLY": (
        {"r": 2, "n_skills": 3, "n_splits": 2, "n_tasks": 1, "poly_type": "poly"},
        {"poly_lora_A": (2, 3, H // 2, 2), "poly_lora_B": (2, 3, 2, H // 2), "poly_router.module_logits": (1, 6)},
        {},
        {"rank": 2, "splits": 2, "skills": 3},
    ),
    "PSOFT": (
        {"r": 3, "psoft_svd": "lowrank", "random_seed": 2, "psoft_mag_a": False, "use_cayley_neumann": True},
        {"psoft_R.weight": (3,), "psoft_R.vector_b": (3,)},
        {},
        {
            "rank": 3,
            "start": "psoft_init",
            "sampled": True,
            "iterations": 10,
            "seed": 2,
            "orthogonal": True,
            "scales_a": False,
            "scales_b": True,
            "terms": 5,
            "eps": 0.0,
        },
    ),
    "PVERA": (
        {"r": 2},
        {"pvera_lambda_d": (4,), "pvera_lambda_b": (H,)},
        {"pvera_A": (4, H), "pvera_B": (H, 2)},
        {"rank": 2, "stored": True, "seed": 0},
    ),
    "SUPERTUNING": (
        {"r": 2, "sparsity": 0.9, "select_top": False},
        {
            "supertuning_values": (6,),
            "supertuning_indices": (6,),
            "supertuning_lora_A.weight": (2, H),
            "supertuning_lora_B.weight": (H, 2),
        },
        {},
        {"count": 6, "stored": True, "largest": False, "rank": 2, "alpha": 4},
    ),
    "TINYLORA": (
        {"r": 3, "u": 4, "weight_tying": 0.5, "projection_seed": 7},
        {"tinylora_A": (2, H), "tinylora_B": (H, 2), "tinylora_P": (4, 2, 2)},
        {"tinylora_v.0": (4,), "tinylora_v.1": (4,)},
        {"rank": 2, "turns": 4, "stored": True},
    ),
}
INTEGERS = {"supertuning_indices": torch.int32, "frod_s_indices": torch.int64, "frod_s_size": torch.int64}
# Settings of a site that tell it from others.
OWN = {
    "FROD": [{"category": kind} for kind in KINDS * 2],
    "TINYLORA": [{"group": index // 2, "seed": 7 + index} for index in range(4)],
}


def config(kind, **changes):
    return {
        "peft_type": kind,
        "peft_version": "0.21.2",
        "task_type": "FEATURE_EXTRACTION",
        "target_modules": ["query", "value"],
        "init_weights": True,
        **CASES[kind][0],
        **changes,
    }


def tensors(kind):
    _, own, shared, _ = CASES[kind]
    generator = torch.Generator().manual_seed(3)
    shapes = {f"base_model.{name}": shape for name, shape in shared.items()}
    shapes |= {f"base_model.model.{path}.{name}": shape for path in PATHS for name, shape in own.items()}
    held = {key: torch.randn(shape, generator=generator) for key, shape in shapes.items()}
    for key, tensor in held.items():
        kind_of = next((whole for name, whole in INTEGERS.items() if name in key), None)
        if kind_of is not None:
            held[key] = torch.randint(0, H, tensor.shape, generator=generator).to(kind_of)
    return held


def folder(where, kind, held=None, **changes):
    held = tensors(kind) if held is None else held
    return write(where, "adapter_model.safetensors", "adapter_config.json", config(kind, **changes), held)


def test_every_layout_is_tested_here_and_has_its_method():
    assert set(CASES) == set(NEWER_LAYOUTS)
    assert all(layout.method in METHODS for layout in NEWER_LAYOUTS.values())


@pytest.mark.parametrize("kind", CASES)
def test_a_folder_reads_fits_and_is_written_again_as_it_was(kind, tmp_path):
    source = folder(tmp_path / "in", kind)
    package = peft.read(source, profile())
    own = OWN.get(kind, [{}] * 4)
    assert sites(package) == {site: CASES[kind][3] | own[i] for i, site in enumerate(SITES)}
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
    more = {f"base_model.model.{PATHS[0]}.{NEWER_LAYOUTS[kind].stem}new": torch.ones(2)}
    found = reasons(folder(tmp_path / "tensor", kind, tensors(kind) | more))
    assert any("belongs to a feature that is not served yet" in reason for reason in found)


@pytest.mark.parametrize(
    ("kind", "changes", "settings"),
    [
        ("DEFT", {"alpha": None}, {"scaling": 1.0}),
        ("PSOFT", {"use_cayley_neumann": False, "cayley_neumann_eps": 0.5}, {"terms": 0, "eps": 0.0}),
        ("PSOFT", {"cayley_neumann_eps": 0.5, "psoft_svd": "full"}, {"terms": 5, "eps": 0.5, "sampled": False}),
        ("SUPERTUNING", {"lora_alpha": 3.0}, {"alpha": 3.0}),
        ("PVERA", {"save_projection": False, "projection_prng_key": 7}, {"stored": False, "seed": 7}),
    ],
)
def test_settings_follow_the_configuration(kind, changes, settings, tmp_path):
    found = sites(peft.read(folder(tmp_path, kind, **changes), profile()))["0/attn_q"]
    assert {name: found[name] for name in settings} == settings


@pytest.mark.parametrize(
    ("kind", "changes"),
    [("PVERA", {"sample_at_inference": True})],
)
def test_what_peft_alone_can_compute_is_refused_with_the_value_that_is_served(kind, changes, tmp_path):
    ((name, value),) = changes.items()
    (reason,) = reasons(folder(tmp_path, kind, **changes))
    assert reason.startswith(f"{name}={value!r} is not served: save it with {name}=")


def test_poly_of_several_tasks_is_read_for_one_and_written_again_with_all(tmp_path):
    held = tensors("POLY")
    held |= {key: torch.randn(3, 6) for key in held if key.endswith("module_logits")}
    source = folder(tmp_path / "in", "POLY", held, n_tasks=3)
    package = peft.read(source, profile(), task_id=2)
    assert sites(package) == dict.fromkeys(SITES, CASES["POLY"][3] | {"tasks": 3, "task": 2})
    check(package, profile())
    peft.write(native.read(native.write(package)), tmp_path / "out")
    assert json.loads((tmp_path / "out" / "adapter_config.json").read_text()) == config("POLY", n_tasks=3)
    after = load_file(tmp_path / "out" / "adapter_model.safetensors")
    assert held.keys() == after.keys()
    assert all(torch.equal(tensor, after[key]) for key, tensor in held.items())
    assert "n_tasks is 3: say which task the package is for (task_id, from 0 to 2)" in reasons(source)


def test_frod_s_bases_are_built_where_they_are_not_stored(tmp_path):
    held = {key: tensor for key, tensor in tensors("FROD").items() if key.startswith("base_model.model.")}
    said = {"save_projection": False, "projection_prng_key": 3, "regularization_alpha": 0.5}
    package = peft.read(folder(tmp_path / "in", "FROD", held, **said), profile())
    more = {"count": 3, "built": True, "seed": 3, "ridge": 0.5}
    assert sites(package) == {site: more | OWN["FROD"][i] for i, site in enumerate(SITES)}
    check(package, profile())
    peft.write(package, tmp_path / "out")
    assert load_file(tmp_path / "out" / "adapter_model.safetensors").keys() == held.keys()


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("dense", "dense"),
        ("encoder.layer.0.attention.output.dense", "attention_output"),
        ("encoder.layer.0.output.dense", "output_dense"),
        ("layers.3.q_proj", "q_proj"),
        ("layers.3.self_attn.q_proj", "self_attn_q_proj"),
    ],
)
def test_frod_names_the_kinds_of_maps_as_peft_does(path, kind):
    assert NEWER_LAYOUTS["FROD"].placed({}, path, 0, 1) == {"category": kind}


@pytest.mark.parametrize(
    ("tying", "groups"), [(0.0, [0, 1, 2, 3, 4]), (0.3, [0, 1, 2, 3, 3]), (0.5, [0, 0, 1, 1, 1]), (1.0, [0] * 5)]
)
def test_tinylora_s_neighbours_share_a_vector(tying, groups):
    placed = NEWER_LAYOUTS["TINYLORA"].placed
    assert [placed({"weight_tying": tying}, "", index, 5)["group"] for index in range(5)] == groups


@pytest.mark.parametrize(
    ("kind", "member"),
    [("DEFT", "alpha"), ("SUPERTUNING", "r"), ("SUPERTUNING", "lora_alpha"), ("TINYLORA", "weight_tying")],
)
def test_what_is_computed_with_must_be_a_number(kind, member, tmp_path):
    assert f"{member} must be a number, not 'two'" in reasons(folder(tmp_path, kind, **{member: "two"}))
