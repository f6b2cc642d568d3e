import json

import pytest
import torch
from safetensors.torch import load_file

from adapters.formats import native
from adapters.formats.check import check
from adapters.formats.peft import folder as peft
from adapters.formats.peft.latest_layouts import LATEST_LAYOUTS
from adapters.methods.table import METHODS
from tests.adapters.formats.folders import H, attention, profile, write
from tests.adapters.formats.peft.reading import assert_same, reasons, sites

PATHS = attention("query", "value", prefix="")
SITES = ("0/attn_q", "0/attn_v", "1/attn_q", "1/attn_v")
# peft_type -> the configuration's own members, a module's tensors, what all share, and the settings of a site.
CASES = {
    "ADAMSS": (
        {"r": 99, "num_subspaces": 2, "subspace_rank": 2, "random_seed": 4, "use_dynamic_rank": True},
        {
            "adamss_newB": (H, H + 1),
            "adamss_A.0": (2, H),
            "adamss_A.1": (1, H),
            "adamss_B.0": (H - 1, 2),
            "adamss_B.1": (1, 1),
        },
        {},
        {"directions": H, "columns": H + 1, "groups": [[H - 1, 2], [1, 1]], "seed": 4},
    ),
    "GLORA": (
        {"r": 2, "config_A_B": "lora", "config_C": "vector", "config_D_E": "none"},
        {
            **{f"glora_{letter}.{name}": size for letter in "AB" for name, size in (("Xd", (H, 2)), ("Xu", (2, H)))},
            "glora_C.X": (H, 1),
            "glora_D.zeros": (H,),
            "glora_E.zeros": (H,),
        },
        {},
        {"rank": 2, "weights": "lora", "coupling": "vector", "biases": "none"},
    ),
    "LILY": (
        {"r": 3, "num_B": 2, "stride_A": 2, "scaling": 0.5},
        {"lily_A.weight": (3, H), "lily_B.weight": (6, H), "lily_router.weight": (2, 3)},
        {},
        {"rank": 3, "experts": 2, "scaling": 0.5},
    ),
    "UNILORA": (
        {"r": 2, "theta_d_length": 30, "proj_seed": 7, "save_indices": True},
        {
            f"unilora_{kind}_{name}": size
            for kind in ("indices", "scales")
            for name, size in (("A", (2, H)), ("B", (H, 2)))
        },
        {"unilora_theta_d": (30,)},
        {"rank": 2, "length": 30, "seed": 7, "stored": True, "place": 0},
    ),
}


def config(kind, **changes):
    plain = {"peft_type": kind, "peft_version": "0.21.2", "task_type": "FEATURE_EXTRACTION", "init_weights": True}
    return {**plain, "target_modules": ["query", "value"], **CASES[kind][0], **changes}


def tensors(kind):
    _, own, shared, _ = CASES[kind]
    generator = torch.Generator().manual_seed(3)
    shapes = {f"base_model.{name}": shape for name, shape in shared.items()}
    shapes |= {f"base_model.model.{path}.{name}": shape for path in PATHS for name, shape in own.items()}
    held = {key: torch.randn(shape, generator=generator) for key, shape in shapes.items()}
    for key, tensor in held.items():
        if "indices" in key:
            held[key] = torch.randint(0, 30, tensor.shape, generator=generator)
        if key.endswith("zeros"):
            held[key] = torch.zeros_like(tensor)
    return held


def folder(where, kind, held=None, **changes):
    held = tensors(kind) if held is None else held
    return write(where, "adapter_model.safetensors", "adapter_config.json", config(kind, **changes), held)


def test_every_layout_is_tested_here_and_has_its_method():
    assert set(CASES) == set(LATEST_LAYOUTS)
    assert all(layout.method in METHODS for layout in LATEST_LAYOUTS.values())


def returned(source, target):
    """The package of a folder, after it was written again as it was."""
    package = peft.read(source, profile())
    check(package, profile())
    package = native.read(native.write(package))
    peft.write(package, target)
    assert json.loads((target / "adapter_config.json").read_text()) == json.loads(
        (source / "adapter_config.json").read_text()
    )
    before, after = (load_file(path / "adapter_model.safetensors") for path in (source, target))
    assert before.keys() == after.keys()
    for key, tensor in before.items():
        assert after[key].dtype == tensor.dtype
        assert torch.equal(after[key], tensor)
    assert_same(package, peft.read(target, profile()))
    return package


@pytest.mark.parametrize("kind", CASES)
def test_a_folder_reads_fits_and_is_written_again_as_it_was(kind, tmp_path):
    package = returned(folder(tmp_path / "in", kind), tmp_path / "out")
    assert sites(package) == dict.fromkeys(SITES, CASES[kind][3])


@pytest.mark.parametrize("kind", CASES)
def test_a_setting_of_no_tuner_and_a_tensor_of_another_are_refused(kind, tmp_path):
    (reason,) = reasons(folder(tmp_path / "setting", kind, new_trick=1))
    assert "'new_trick' is not known" in reason
    more = {f"base_model.model.{PATHS[0]}.{LATEST_LAYOUTS[kind].stem}new": torch.ones(2)}
    found = reasons(folder(tmp_path / "tensor", kind, tensors(kind) | more))
    assert any("belongs to a feature that is not served yet" in reason for reason in found)


def test_without_indices_the_configuration_says_which_maps_there_are(tmp_path):
    held = {"base_model.unilora_theta_d": torch.randn(30)}
    package = returned(folder(tmp_path / "in", "UNILORA", held, save_indices=False), tmp_path / "out")
    said = {"rank": 2, "length": 30, "seed": 7, "stored": False}
    assert sites(package) == {site: said | {"place": i} for i, site in enumerate(SITES)}


@pytest.mark.parametrize(
    ("none", "settings"),
    [("AB", {"weights": "none"}), ("C", {"coupling": "none"}), ("DE", {"biases": "none"}), ("", {"biases": "vector"})],
)
def test_glora_s_maps_have_what_their_tensors_say(none, settings):
    held = {f"{letter}.{'zeros' if letter in none else 'X'}": torch.zeros(1) for letter in "ABCDE"}
    found = LATEST_LAYOUTS["GLORA"].derived({"config_D_E": "vector"}, held)
    assert found == {"weights": "lora", "coupling": "lora", "biases": "vector"} | settings
