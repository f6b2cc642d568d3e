import pytest

from adapters.formats.adapterhub.compacter import write
from tests.adapters.formats.adapterhub import by_hand
from tests.adapters.formats.adapterhub.by_hand import FAMILIES, phm
from tests.adapters.formats.adapterhub.reading import host, keys, read, reasons, stored

SHARINGS = {
    "usual": ({}, {}),
    "full W": ({"factorized_phm_W": False}, {"factorized": False}),
    "factorised rule": ({"factorized_phm_rule": True}, {"rule": ("phm_rule_left", "phm_rule_right")}),
    "own rule": ({"shared_phm_rule": False}, {"shared_rule": False}),
    "own factorised rule": (
        {"shared_phm_rule": False, "factorized_phm_rule": True},
        {"shared_rule": False, "rule": ("phm_rule_left", "phm_rule_right")},
    ),
    "shared W": ({"shared_W_phm": True}, {"shared_w": True}),
    "shared full W, own rule": (
        {"shared_W_phm": True, "factorized_phm_W": False, "shared_phm_rule": False},
        {"shared_w": True, "factorized": False, "shared_rule": False},
    ),
}


@pytest.mark.parametrize("sharing", SHARINGS)
@pytest.mark.parametrize("family", ["bert", "albert"])
def test_every_sharing_has_its_keys_and_its_way_back(sharing, family):
    changes, by = SHARINGS[sharing]
    expected = by_hand.compacter(FAMILIES[family], **by)
    assert stored(phm(**changes), family) == {key.removeprefix(f"{family}.") for key in expected}
    (part,) = read(phm(**changes), family)
    assert read(write(part.config, host(family)), family) == (part,)


def test_the_part_has_the_members_of_a_bottleneck_and_its_own():
    (part,) = read(phm(phm_rank=3, use_gating=True))
    assert part.method == "compacter"
    assert part.config["sites"]["0/attn_junction"] == {"width": 4}
    assert {name: part.config[name] for name in ("phm_dim", "phm_rank", "phm_bias", "factorized_W", "shared_rule")} == {
        "phm_dim": 2,
        "phm_rank": 3,
        "phm_bias": True,
        "factorized_W": True,
        "shared_rule": True,
    }
    assert part.config["use_gating"] is True


def test_names_of_shared_tensors_tell_down_from_up():
    found = keys(phm(shared_W_phm=True))
    assert found["model/compacter/down.W_left"].stored == "shared_parameters.a.W_down_left"
    assert found["model/compacter/up.W_right"].stored == "shared_parameters.a.W_up_right"
    assert found["model/compacter/rule"].stored == "shared_parameters.a.phm_rule"
    whole = keys(phm(shared_W_phm=True, factorized_phm_W=False))
    assert whole["model/compacter/up.W"].stored == "shared_parameters.a.W_up"


def test_without_biases_there_are_none_and_extras_stay():
    found = keys(phm(phm_bias=False, ln_after=True))
    assert "0/ffn_junction/down.b" not in found
    assert "0/ffn_junction/norm_after.weight" in found


def test_shared_blocks_need_one_width():
    assert "one reduction_factor" in reasons(phm(shared_W_phm=True, reduction_factor={"default": 2}))[0]
