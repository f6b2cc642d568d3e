from dataclasses import replace

import pytest
import torch

from adapters.door.averages import average
from adapters.errors import Misfit
from adapters.weights import Package
from tests.adapters import builders

LORAS = [builders.package("bert", [builders.lora(rank=3)], seed=seed) for seed in (1, 2)]


def test_linear_is_the_weighted_sum_of_every_tensor():
    packages = [builders.package("bert", [builders.PARTS["seq_bn"]], seed=seed) for seed in (1, 2, 3)]
    made = average(packages, [0.5, 2.0, -1.0], "linear", None)
    assert made.manifest.parts == packages[0].manifest.parts
    for name, tensor in made.tensors.items():
        one, two, three = (package.tensors[name] for package in packages)
        assert torch.allclose(tensor, 0.5 * one + 2 * two - three, atol=1e-6)


def test_a_negative_weight_may_turn_b_alone():
    made = average(LORAS, [1.0, -0.5], "lora_linear_only_negate_b", None).tensors
    one, two = (package.tensors for package in LORAS)
    assert torch.allclose(made["0/attn_q/lora_A"], one["0/attn_q/lora_A"] + 0.5 * two["0/attn_q/lora_A"])
    assert torch.allclose(made["0/attn_q/lora_B"], one["0/attn_q/lora_B"] - 0.5 * two["0/attn_q/lora_B"])


def test_the_sum_of_updates_is_split_again_at_the_rank_asked_for():
    made = average(LORAS, [1.0, -0.5], "lora_delta_w_svd", 6)
    for site in ("0/attn_q", "1/attn_v"):
        one, two = (package.tensors[f"{site}/lora_B"] @ package.tensors[f"{site}/lora_A"] for package in LORAS)
        held = made.tensors[f"{site}/lora_B"] @ made.tensors[f"{site}/lora_A"]
        assert torch.allclose(held, one - 0.5 * two, atol=1e-5)
        assert made.tensors[f"{site}/lora_A"].shape[0] == 6
    settings = made.manifest.parts[0].config["sites"]["0/attn_q"]
    assert settings["rank"] == 6
    assert settings["scaling"] == pytest.approx(1.7 / 2)


def test_a_smaller_rank_keeps_the_largest_directions():
    made = average(LORAS, [1.0, 1.0], "lora_delta_w_svd", 2).tensors
    delta = sum(package.tensors["0/attn_q/lora_B"] @ package.tensors["0/attn_q/lora_A"] for package in LORAS)
    left = torch.linalg.svdvals(delta - made["0/attn_q/lora_B"] @ made["0/attn_q/lora_A"])
    assert float(left[0]) == pytest.approx(float(torch.linalg.svdvals(delta)[2]), rel=1e-4)


@pytest.mark.parametrize(
    ("parts", "strategy", "rank", "reason"),
    [
        (("lora_qv", "lora_all"), "linear", None, "differ in their configurations"),
        (("seq_bn", "seq_bn"), "lora_linear_only_negate_b", None, "for LoRA alone"),
        (("lora_all", "lora_all"), "lora_delta_w_svd", 2, "without gates, biases"),
        (("lora_qv", "lora_qv"), "magic", None, "'magic' is no way to combine"),
        (("lora_qv", "lora_qv"), "lora_delta_w_svd", None, "needs svd_rank"),
        (("lora_qv", "lora_qv"), "lora_delta_w_svd", 33, "above what 0/attn_q can have"),
        (("lora_qv", "lora_qv"), "linear", 2, "goes with lora_delta_w_svd alone"),
    ],
)
def test_what_can_not_be_averaged_is_refused(parts, strategy, rank, reason):
    packages = [builders.package("bert", [builders.PARTS[name]]) for name in parts]
    with pytest.raises(Misfit, match=reason):
        average(packages, [0.5, 0.5], strategy, rank)


def test_adapters_of_other_routes_are_not_averaged():
    plain = builders.package("bert", [builders.PARTS["lora_qv"]])
    routed = Package(replace(plain.manifest, route=(1, 0)), plain.tensors)
    with pytest.raises(Misfit, match="differ in their layer_replication"):
        average([plain, routed], [0.5, 0.5], "linear", None)
    assert average([routed, routed], [0.5, 0.5], "linear", None).manifest.route == (1, 0)
