import pytest
import torch

from adapters.errors import Misfit
from adapters.methods.fold import fitting_of
from adapters.methods.settings import Settings, activation, choice_in, count_in, flag_in, known_in, number_in
from tests.adapters import builders

FITTING = fitting_of(builders.profile("bert"))


def test_reasons_are_gathered_and_raised_together():
    settings = Settings("m", {"a": 1, "b": "x", "zzz": 0}, ("a", "b"))
    settings.flag("a")
    settings.count("b")
    with pytest.raises(Misfit) as caught:
        settings.done()
    assert [reason.split(":")[0] for reason in caught.value.reasons] == ["m"] * 3


def test_a_clean_configuration_raises_nothing():
    settings = Settings("m", {"a": True, "n": 3, "c": "x"}, ("a", "n", "c"))
    assert (settings.flag("a"), settings.count("n"), settings.choice("c", ("x", "y"))) == (True, 3, "x")
    settings.done()


def test_true_is_no_one():
    settings = Settings("m", {"n": True, "c": True}, ("n", "c"))
    settings.count("n")
    settings.choice("c", (1, 2))
    with pytest.raises(Misfit) as caught:
        settings.done()
    assert len(caught.value.reasons) == 2


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "1", None, False])
def test_numbers_are_finite_numbers(value):
    settings = Settings("m", {}, ())
    number_in(settings, "here", {"s": value}, "s")
    assert settings.reasons


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e39, -1e39, 10**400, "1", None, False, [1]])
def test_a_number_that_would_be_infinite_in_a_pass_is_none(value):
    settings = Settings("m", {"s": value}, ("s",))
    settings.number("s")
    number_in(settings, "here", {"s": value}, "s")
    assert [reason.split(" must ")[0] for reason in settings.reasons] == ["m: s", "m: here.s"]


def test_numbers_may_have_to_be_positive_and_counts_to_begin_elsewhere():
    settings = Settings("m", {"n": -2, "z": 0}, ("n", "z"))
    assert (settings.number("n"), settings.count("z", at_least=0)) == (-2.0, 0)
    assert not settings.reasons
    settings.number("z", positive=True)
    settings.count("n", 5, 0)
    assert settings.reasons == [
        "m: z must be a number above zero, not 0",
        "m: n must be an integer from 0 to 5, not -2",
    ]


def test_a_reason_is_noted_once_and_members_are_had_as_they_are():
    settings = Settings("m", {"a": [1], 5: 2, "x": 3}, ("a",))
    assert (settings.get("a"), settings.get("b")) == ([1], None)
    settings.flag("a")
    settings.flag("a")
    assert len(settings.reasons) == 3


@pytest.mark.parametrize("value", [0, -1, 1.5, True, None, 10**9])
def test_counts_are_positive_and_sane(value):
    settings = Settings("m", {}, ())
    count_in(settings, "here", {"s": value}, "s")
    assert settings.reasons


def test_flags_and_choices_of_a_site_have_defaults_and_nothing_else_may_be_said():
    settings = Settings("m", {}, ())
    assert not flag_in(settings, "here", {}, "f")
    assert flag_in(settings, "here", {"f": True}, "f")
    assert choice_in(settings, "here", {}, "c", ("a", "b")) == "a"
    assert choice_in(settings, "here", {"c": "b"}, "c", ("a", "b")) == "b"
    known_in(settings, "here", {"f": True}, ("f", "c"))
    assert not settings.reasons
    flag_in(settings, "here", {"f": 1}, "f")
    choice_in(settings, "here", {"c": ["a"]}, "c", ("a", "b"))
    known_in(settings, "here", {"g": 1, "c": "a"}, ("c",))
    assert settings.reasons == [
        "m: here.f must be true or false, not 1",
        "m: here.c must be one of 'a', 'b', not ['a']",
        "m: here: unknown setting 'g'",
    ]


def test_sites_must_exist_on_the_backbone():
    settings = Settings(
        "m", {"sites": {"0/attn_q": {}, "2/attn_q": {}, "0/ffn_junction": {}, "x": {}, "1/attn_q": 3}}, ("sites",)
    )
    assert [str(a) for a in settings.sites(FITTING, ("attn_q",))] == ["0/attn_q"]
    assert len(settings.reasons) == 4


@pytest.mark.parametrize("name", ["relu", "gelu", "gelu_new", "swish", "silu", "tanh", "leakyrelu"])
def test_activations_that_adapterhub_names(name):
    assert activation(name)(torch.zeros(3)).shape == (3,)


def test_leakyrelu_has_torchs_default_slope():
    assert activation("leakyrelu")(torch.tensor([-1.0])).item() == pytest.approx(-0.01)
