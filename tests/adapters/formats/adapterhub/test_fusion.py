import pytest
import torch

from adapters.errors import Misfit
from adapters.formats.adapterhub import fusion
from tests.adapters.formats.adapterhub.by_hand import FAMILIES, fusion_config
from tests.adapters.formats.adapterhub.by_hand import fusion as by_hand
from tests.adapters.formats.adapterhub.reading import host


def read(config, keys=None, name="x,y", family="bert"):
    held = dict.fromkeys(by_hand(FAMILIES[family]) if keys is None else keys, torch.zeros(1))
    return fusion.read({"config": config}, name, held, host(family))


def reasons(*args, **kwargs):
    with pytest.raises(Misfit) as caught:
        read(*args, **kwargs)
    return caught.value.reasons


@pytest.mark.parametrize("family", FAMILIES)
def test_places_are_those_that_the_checkpoint_has_tensors_for(family):
    part = read(fusion_config(), family=family)
    assert set(part.config["sites"]) == {f"{i}/{site}" for i in (0, 1) for site in ("attn_junction", "ffn_junction")}
    part = read(fusion_config(), by_hand(FAMILIES[family], places="o"), family=family)
    assert set(part.config["sites"]) == {"0/ffn_junction", "1/ffn_junction"}
    stored = {f"{FAMILIES[family].root}{key.stored}" for key in fusion.keys(part.config, "x,y", host(family))}
    assert stored == set(by_hand(FAMILIES[family], places="o"))


def test_a_static_fusion_has_no_value():
    part = read(fusion_config(value=False), by_hand(FAMILIES["bert"], value=False))
    assert part.config["value"] is False
    assert len(list(fusion.keys(part.config, "x,y", host()))) == 4 * 4


def test_what_can_not_be_served_is_named_all_at_once():
    assert "how often a fusion was called" in reasons(fusion_config(temperature=True))[0]
    found = reasons(fusion_config(temperature=True, query=False, key=False, value=False, dropout=0.1), [])
    assert [reason.split(" ")[1] for reason in found] == ["unknown", "temperature=true", "without", "the"]
    lacking = fusion_config()
    del lacking["residual_before"]
    assert reasons(lacking) == ("the fusion configuration lacks residual_before",)
    assert "no 'config'" in reasons("dynamic")[0]


@pytest.mark.parametrize("key", [*fusion.SETTINGS, "temperature"])
@pytest.mark.parametrize("value", ["no", 1, None, []])
def test_flags_are_flags(key, value):
    (reason,) = reasons(fusion_config(**{key: value}))
    assert reason == f"fusion: {key} must be true or false, not {value!r}"


def test_what_only_training_looks_at_may_be_said():
    silent = {"regularization": True, "value_initialized": "identity", "dropout_prob": 0.1, "later": None}
    assert read(fusion_config(**silent)) == read(fusion_config())


def test_another_fusion_s_places_are_not_its_own():
    assert "no fusion 'x' at any place" in reasons(fusion_config(), name="x")[0]
    assert fusion.strangers({"o.adapter_fusion_layer.x,y.key.bias": "", "o.adapter_fusion_layer.x.odd": ""}, "x") == {
        "o.adapter_fusion_layer.x,y.key.bias"
    }


def test_children_are_named_or_are_the_name():
    assert fusion.children({"adapter_names": ["a", "b"]}, "mine") == ("a", "b")
    assert fusion.children({}, "a,b") == ("a", "b")
    assert fusion.children({"adapter_names": None}, "a,b") == ("a", "b")
    for names in ("ab", [1], ["a", ""], [], "", 0, False, {}, ["a", "a"], ["a", []]):
        with pytest.raises(Misfit, match="adapter_names"):
            fusion.children({"adapter_names": names}, "mine")


def test_a_configuration_made_from_a_part_reads_as_the_same_part():
    part = read(fusion_config(query_before_ln=True, value_before_softmax=False, residual_before=True))
    assert read(fusion.write(part.config, host())) == part
