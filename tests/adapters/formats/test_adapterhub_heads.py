from dataclasses import replace

import pytest
import torch

from adapters.errors import Misfit
from adapters.formats.adapterhub_heads import flexible_keys, read, write, write_like
from adapters.formats.labels import UNNAMED
from tests.adapters.formats.folders import H, head_config, head_keys, saved, tensors

STATIC = {"model_class": "BertForSequenceClassification", "name": None, "num_labels": 2, "label2id": {"n": 0, "p": 1}}


def flexible(shapes=None, **changes):
    return read(saved(head_config(**changes)), tensors(shapes or head_keys()))


def test_a_flexible_head_reads_its_maps_in_order_and_its_labels_by_id():
    held = tensors(head_keys())
    head = read(saved(head_config()), held)
    assert head.spec.labels == ("neg", "neu", "pos")
    assert (head.spec.type, head.spec.layers, head.spec.activation, head.spec.pooling) == (
        "classification",
        2,
        "tanh",
        "first_token",
    )
    assert torch.equal(head.tensors["head/1/weight"], held["heads.a.4.weight"])
    assert head.warnings == ()


@pytest.mark.parametrize(("activation", "places"), [("relu", [1, 4, 7]), (None, [1, 3, 5]), ("", [1, 3, 5])])
def test_places_in_the_sequence_depend_on_the_activation(activation, places):
    one_layer = {key: shape for key, shape in head_keys().items() if ".1." in key}
    spec = flexible(one_layer, activation_function=activation, layers=1, num_labels=8, label2id=None).spec
    keys = flexible_keys("a", replace(spec, layers=3), last_bias=True)
    assert [keys[f"head/{i}/weight"] for i in range(3)] == [f"heads.a.{n}.weight" for n in places]


def test_one_layer_without_bias_has_none():
    head = flexible({"heads.a.1.weight": (3, H)}, layers=1, bias=False)
    assert not head.spec.bias
    assert set(head.tensors) == {"head/0/weight"}


def test_a_missing_last_bias_of_several_layers_is_zero():
    shapes = {key: shape for key, shape in head_keys().items() if key != "heads.a.4.bias"}
    head = flexible(shapes, bias=False)
    assert head.spec.bias
    assert torch.equal(head.tensors["head/1/bias"], torch.zeros(3))


@pytest.mark.parametrize(
    ("changes", "problem", "pooling"),
    [
        ({"use_pooler": True}, "single_label", "pooler"),
        ({"head_type": "multilabel_classification"}, "multi_label", "first_token"),
        ({"head_type": "tagging"}, "token", "tokens"),
        ({"num_labels": 1, "label2id": None}, "regression", "first_token"),
    ],
)
def test_type_and_pooler_decide_problem_and_pooling(changes, problem, pooling):
    spec = flexible(**changes).spec
    assert (spec.problem_type, spec.pooling) == (problem, pooling)


def test_labels_without_names_are_numbered_and_the_operator_is_told():
    head = flexible(label2id=None)
    assert head.spec.labels == ("LABEL_0", "LABEL_1", "LABEL_2")
    assert head.warnings == (UNNAMED,)


def test_an_old_head_s_gelu_is_the_new_one_and_leaky_relu_has_transformers_name():
    whole = saved(head_config(activation_function="gelu"))
    del whole["version"]
    assert read(whole, tensors(head_keys())).spec.activation == "gelu_new"
    assert flexible(activation_function="leakyrelu").spec.activation == "leaky_relu"


def test_every_missing_and_left_over_key_is_named():
    shapes = head_keys() | {"heads.a.7.weight": (3, H)}
    del shapes["heads.a.1.bias"], shapes["heads.a.4.weight"]
    with pytest.raises(Misfit) as caught:
        flexible(shapes)
    assert len(caught.value.reasons) == 3


@pytest.mark.parametrize("head_type", ["question_answering", "masked_lm", "dependency_parsing", None])
def test_other_heads_are_refused_by_their_type(head_type):
    with pytest.raises(Misfit, match="not served yet"):
        flexible(head_type=head_type)


@pytest.mark.parametrize("changes", [{"layers": 0}, {"layers": True}, {"num_labels": "3"}, {"label2id": {"a": 0}}])
def test_malformed_members_are_refused(changes):
    with pytest.raises(Misfit):
        flexible(**changes)
    with pytest.raises(Misfit):
        read(saved([1]), {})


def test_a_static_head_reads_with_its_labels():
    held = tensors({"classifier.weight": (2, H), "classifier.bias": (2,)})
    head = read(saved(None, **STATIC), held)
    assert (head.spec.pooling, head.spec.layers, head.spec.labels) == ("pooler", 1, ("n", "p"))
    with pytest.raises(Misfit, match="BertForMaskedLM"):
        read(saved(None, **STATIC | {"model_class": "BertForMaskedLM"}), held)


def test_a_head_from_elsewhere_is_written_as_a_flexible_one_that_reads_the_same():
    for changes in ({}, {"head_type": "tagging"}, {"use_pooler": True}, {"activation_function": None}):
        step = 4 if changes.get("activation_function", "x") else 3
        shapes = {key.replace(".4.", f".{step}."): shape for key, shape in head_keys().items()}
        head = flexible(shapes, **changes)
        members, stored = write(head.spec, head.tensors, "a")
        again = read(saved(None) | members, stored)
        assert again.spec == head.spec
        assert all(torch.equal(again.tensors[name], tensor) for name, tensor in head.tensors.items())


def test_the_configuration_a_head_came_with_is_used_while_it_is_true():
    head = flexible({k: s for k, s in head_keys().items() if k != "heads.a.4.bias"}, bias=False)
    whole = saved(head_config(bias=False))
    stored = write_like(whole, head.spec, head.tensors)
    assert stored is not None
    assert "heads.a.4.bias" not in stored
    trained = dict(head.tensors) | {"head/1/bias": torch.ones(3)}
    assert write_like(whole, head.spec, trained) is None
    assert write_like(saved(head_config(bias=False, label2id=None)), head.spec, head.tensors) is None


def test_a_static_configuration_writes_the_keys_of_its_class():
    held = tensors({"classifier.weight": (2, H), "classifier.bias": (2,)})
    whole = saved(None, **STATIC)
    head = read(whole, held)
    assert set(write_like(whole, head.spec, head.tensors)) == set(held)
    assert write_like(whole | {"model_type": "gpt2"}, head.spec, head.tensors) is None
