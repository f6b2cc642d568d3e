import pytest

from adapters.errors import Misfit
from adapters.manifest import Manifest
from adapters.methods.fold import expected, fitting_of
from adapters.methods.presets import PRESETS, parts_of
from tests.adapters import builders

FITTING = fitting_of(builders.profile("bert"))
# AdapterHub's names (adapters 1.3.0, ADAPTER_CONFIG_MAP).
ADAPTERHUB = [
    "pfeiffer",
    "houlsby",
    "parallel",
    "scaled_parallel",
    "pfeiffer+inv",
    "houlsby+inv",
    "seq_bn",
    "double_seq_bn",
    "par_bn",
    "scaled_par_bn",
    "seq_bn_inv",
    "double_seq_bn_inv",
    "compacter++",
    "compacter",
    "prefix_tuning",
    "prefix_tuning_flat",
    "prompt_tuning",
    "mtl_lora",
    "lora",
    "ia3",
    "vera",
    "dora",
    "dvora",
    "loreft",
    "noreft",
    "direft",
    "mam",
    "unipelt",
]
WIDE_ENOUGH = {"compacter": {"reduction_factor": 4}, "compacter++": {"reduction_factor": 4}}  # for phm_dim 4


def methods(preset: str, **overrides: object) -> list[str]:
    return [part.method for part in parts_of(preset, FITTING, **overrides)]


def test_every_name_of_adapterhub_is_there_and_our_own():
    assert {*ADAPTERHUB, "adapterplus", "bottleneck", "double_bottleneck"} == set(PRESETS)


@pytest.mark.parametrize("family", ["bert", "roberta", "distilbert"])
@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_fits_every_family(preset, family):
    profile = builders.profile(family)
    parts = parts_of(preset, fitting_of(profile), **WIDE_ENOUGH.get(preset, {}))
    assert expected(Manifest("adapter", builders.requires(family), parts), profile)


def test_names_mean_the_methods_and_defaults_of_adapterhub():
    assert methods("seq_bn_inv") == ["bottleneck", "invertible"]
    assert methods("unipelt") == ["prefix_tuning", "bottleneck", "lora"]
    assert methods("mam") == ["prefix_tuning", "bottleneck"]
    (plus,) = parts_of("adapterplus", FITTING)
    assert (plus.config["scaling"], plus.config["original_ln_after"], plus.config["non_linearity"]) == ("channel", False, "gelu")  # fmt: skip
    (ia3,) = parts_of("ia3", FITTING)
    assert sorted(ia3.config["sites"]) == [f"{i}/{site}" for i in (0, 1) for site in ("attn_k", "attn_v", "ffn_in")]
    (lora,) = parts_of("lora", FITTING)
    assert lora.config["sites"]["0/attn_v"] == {"rank": 8, "scaling": 1.0, "bias": False}


def test_the_members_of_unipelt_are_gated_and_its_lora_scales_by_a_quarter():
    prefix, bottleneck, lora = parts_of("unipelt", FITTING)
    assert (prefix.config["gating"], prefix.config["length"], bottleneck.config["use_gating"]) == ("shared", 10, True)
    assert lora.config["sites"]["1/attn_q"] == {"rank": 8, "scaling": 0.25, "bias": False, "gated": True}


def test_overrides_have_the_names_of_adapterhub():
    (part,) = parts_of("lora", FITTING, r=4, alpha=12, leave_out=[0], output_lora=True, attn_matrices=["k"])
    assert {name: site["scaling"] for name, site in part.config["sites"].items()} == {"1/attn_k": 3.0, "1/ffn_out": 3.0}
    prefix, parallel = parts_of("mam", FITTING, prefix_tuning={"prefix_length": 7}, adapter={"reduction_factor": 8})
    assert (prefix.config["length"], prefix.config["bottleneck"]) == (7, 800)
    assert parallel.config["sites"]["0/ffn_junction"] == {"width": 4}
    assert parts_of("loreft", FITTING, layers=[1], prefix_positions=5)[0].config["layers"] == [1]


def test_an_unknown_preset_is_refused_naming_those_there_are():
    with pytest.raises(Misfit, match="seq_bn, double_seq_bn"):
        parts_of("magic", FITTING)


@pytest.mark.parametrize(
    ("preset", "overrides", "reasons"),
    [
        ("lora", {"rank": 8, "dropout": 0.1}, ["lora: unknown setting 'dropout'", "lora: unknown setting 'rank'"]),
        ("unipelt", {"r": 8}, ["unipelt: unknown setting 'r'"]),
        ("unipelt", {"lora": 8}, ["unipelt: lora must be an object, not 8"]),
        ("unipelt", {"lora": {"rank": 8}, "adapter": {"x": 1}}, ["unipelt.adapter: unknown setting 'x'", "unipelt.lora: unknown setting 'rank'"]),
        ("seq_bn", {"output_adapter": False}, ["seq_bn: adapts no module at all"]),
    ],
)  # fmt: skip
def test_unknown_and_senseless_overrides_are_refused_all_at_once(preset, overrides, reasons):
    with pytest.raises(Misfit) as caught:
        parts_of(preset, FITTING, **overrides)
    assert list(caught.value.reasons) == reasons
