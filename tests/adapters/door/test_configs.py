import pytest

from adapters.door.configs import parts, same
from adapters.errors import Misfit
from adapters.manifest import PartSpec
from tests.adapters import builders

PROFILE = builders.profile("bert")
LORA = {"architecture": "lora", "selfattn_lora": True, "intermediate_lora": False, "output_lora": False, "r": 4}
LORA |= {"alpha": 8, "attn_matrices": ["q", "v"], "composition_mode": "add", "dropout": 0.0, "init_weights": "lora"}


def made(config, **overrides):
    return parts(config, overrides, PROFILE)


def test_brackets_keywords_and_dictionaries_mean_the_same():
    expected = made("lora", r=4, alpha=8)
    assert made("lora[r=4,alpha=8]") == made("lora[ r = 4 , alpha = 8 ]") == made("lora[r=4]", alpha=8) == expected
    assert same(made(LORA), expected, PROFILE)
    assert expected[0].config["sites"]["0/attn_q"]["rank"] == 4
    assert made("lora[]") == made("lora")


def test_parts_are_compared_by_what_they_mean():
    assert not same(made("lora[r=4,alpha=16]"), made("lora[r=4]"), PROFILE)
    assert not same(made("lora"), made("seq_bn"), PROFILE)
    unspeakable = [builders.PARTS["ia3_input"]]
    assert same(unspeakable, unspeakable, PROFILE)
    assert not same(unspeakable, made("ia3"), PROFILE)


def test_without_a_configuration_it_is_adapterhubs_default():
    assert made(None) == made("seq_bn") == made("pfeiffer")
    assert made(None, reduction_factor=8)[0].config["sites"]["0/ffn_junction"]["width"] == 4


def test_a_union_has_the_parts_of_each():
    both = made("prefix_tuning|lora[r=4]")
    assert both == made("prefix_tuning") + made("lora[r=4]")
    assert made({"architecture": "union", "configs": [LORA]}) == made(LORA)


def test_parts_are_taken_as_they_are():
    assert made([builders.PARTS["seq_bn"]]) == (builders.PARTS["seq_bn"],)


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ("lora[r]", "'r' in .* overrides nothing: write 'member=value'"),
        ("lora[r=]", "overrides nothing"),
        ("lora[=4]", "overrides nothing"),
        ("lora[r=4,]", "overrides nothing"),
        ("seq_bn[leave_out=[0,1]]", "lists do not go in brackets, but in a keyword"),
        ("magic", "'magic' is no method"),
        ({"architecture": "magic"}, "'magic' is not served"),
        ({"architecture": "lora", "r": 4}, "lacks"),
        ({}, "lacks"),
        ([], "a preset, a dictionary or a list of parts, not list"),
        (["lora"], "not list"),
        (5, "not int"),
        ([PartSpec("magic", {})], "'magic' is no method"),
    ],
)
def test_what_means_nothing_is_refused(config, reason):
    with pytest.raises(Misfit, match=reason):
        made(config)


def test_an_override_is_never_dropped_or_given_twice():
    with pytest.raises(Misfit, match="'r' is given twice"):
        made("lora[r=4]", r=4)
    for config in (LORA, [builders.PARTS["seq_bn"]]):
        with pytest.raises(Misfit, match="'r' overrides a preset"):
            made(config, r=4)
