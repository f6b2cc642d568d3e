from dataclasses import replace

import pytest

from adapters.architectures.encoders import BERT
from adapters.errors import Misfit
from adapters.formats.adapterhub.head_config import config_of, flexible_keys, names_labels, spec_of
from adapters.formats.static_heads import OwnSettings
from tests.adapters.formats.folders import head_config, saved

OWN = OwnSettings(1e-5, "gelu", 50, 12)


def spec(**config):
    return spec_of(saved(config), config, OWN)


def changed(**changes):
    return spec(**head_config(**changes))


@pytest.mark.parametrize(("activation", "places"), [("relu", [1, 4, 7]), (None, [1, 3, 5]), ("", [1, 3, 5])])
def test_places_in_the_sequence_depend_on_the_activation(activation, places):
    keys = flexible_keys("a", changed(activation_function=activation, layers=3), last_bias=True)
    assert [keys[f"head/{i}/weight"] for i in range(3)] == [f"heads.a.{n}.weight" for n in places]


@pytest.mark.parametrize(
    ("changes", "places"),
    [
        ({}, {"0": 0, "0/norm": 2, "1": 3}),
        ({"layer_norm": False}, {"0": 0, "1": 2}),
        ({"activation_function": None}, {"0": 0, "0/norm": 1, "1": 2}),
        ({"layers": 3}, {"0": 0, "0/norm": 2, "1": 3, "1/norm": 5, "2": 6}),
        ({"layers": 1}, {"0": 0}),
        ({"layers": 2, "activation_function": None, "layer_norm": False}, {"0": 0, "1": 1}),
    ],
)
def test_heads_over_the_vocabulary_have_no_dropout_and_a_norm_behind_the_activation(changes, places):
    keys = flexible_keys("a", spec(head_type="masked_lm", **changes), last_bias=True)
    wanted = {}
    for place, slot in places.items():
        stem = f"head/{place}." if place.endswith("norm") else f"head/{place}/"
        wanted |= {f"{stem}{kind}": f"heads.a.{slot}.{kind}" for kind in ("weight", "bias")}
    assert keys == wanted


@pytest.mark.parametrize(
    ("head_type", "layers", "activation", "bias"),
    [
        ("classification", 2, "tanh", True),
        ("multilabel_classification", 2, "tanh", True),
        ("tagging", 1, "tanh", True),
        ("question_answering", 1, "tanh", True),
        ("multiple_choice", 2, "tanh", True),
        ("masked_lm", 2, "gelu", True),
        ("dependency_parsing", 1, None, True),
    ],
)
def test_members_that_are_left_out_have_the_defaults_of_the_library_s_classes(head_type, layers, activation, bias):
    found = spec(head_type=head_type)
    assert (found.layers, found.activation, found.bias) == (layers, activation, bias)
    assert found.pooling == ("first_token" if head_type.endswith(("classification", "choice")) else "tokens")


def test_sizes_of_a_vocabulary_that_are_left_out_are_the_backbone_s():
    for config in ({}, {"vocab_size": None, "embedding_size": None}):
        found = spec(head_type="masked_lm", **config)
        assert (found.vocabulary, found.width, found.norm_eps) == (50, 12, 1e-5)
    assert spec(head_type="masked_lm", layer_norm=False).norm_eps is None
    assert spec(head_type="masked_lm", layers=1).norm_eps is None
    assert not spec(head_type="masked_lm", bias=False).bias


@pytest.mark.parametrize(
    ("changes", "problem", "pooling"),
    [
        ({"use_pooler": True}, "single_label", "pooler"),
        ({"head_type": "multilabel_classification"}, "multi_label", "first_token"),
        ({"num_labels": 1, "label2id": None}, "regression", "first_token"),
    ],
)
def test_type_and_pooler_decide_problem_and_pooling(changes, problem, pooling):
    found = changed(**changes)
    assert (found.problem_type, found.pooling) == (problem, pooling)


def test_an_old_head_s_gelu_is_the_new_one_and_leaky_relu_has_transformers_name():
    config = head_config(activation_function="gelu")
    whole = saved(config)
    del whole["version"]
    assert spec_of(whole, config, OWN).activation == "gelu_new"
    assert changed(activation_function="leakyrelu").activation == "leaky_relu"


@pytest.mark.parametrize("head_type", ["speech", None, 3])
def test_other_heads_are_refused_by_their_type(head_type):
    with pytest.raises(Misfit, match="not served; served are classification"):
        changed(head_type=head_type)


def test_every_malformed_and_unknown_member_is_named_at_once():
    with pytest.raises(Misfit) as caught:
        changed(layers=True, num_labels="3", temperature=2.0)
    assert len(caught.value.reasons) == 3
    assert changed(something_that_is_off=False).layers == 2


@pytest.mark.parametrize("value", ["x", "no", 1, None, []])
@pytest.mark.parametrize(
    ("head_type", "member"), [("classification", "bias"), ("classification", "use_pooler"), ("masked_lm", "layer_norm")]
)
def test_flags_are_flags(head_type, member, value):
    with pytest.raises(Misfit, match=f"head_config.json: {member} must be true or false, not"):
        spec(head_type=head_type, **{member: value})


@pytest.mark.parametrize("value", [5, [], False])
def test_an_activation_is_a_name_or_none(value):
    with pytest.raises(Misfit, match="activation_function must be the name of an activation or nothing"):
        changed(activation_function=value)


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        ({"id2label": ["a", "b"]}, "id2label must be an object"),
        ({"id2label": {"0": ["x"], "1": "b"}}, r"the labels of id2label must be texts, not \[\['x'\], 'b'\]"),
        ({"id2label": {"0": "a", "1": "a"}}, "does not number the 2 outputs"),
        ({"label2id": ["a", "b"]}, "label2id must be an object"),
        ({"label2id": {"a": [0], "b": 1}}, "does not number the 2 outputs"),
    ],
)
def test_labels_are_objects_of_names_and_numbers(labels, said):
    with pytest.raises(Misfit, match=said):
        spec(head_type="classification", **labels)


def test_sizes_of_a_vocabulary_are_numbers_where_they_are_said():
    for value in (0, "", False, "9"):
        with pytest.raises(Misfit, match="vocab_size must be an integer from 1"):
            spec(head_type="masked_lm", vocab_size=value)


@pytest.mark.parametrize("changes", [{"layers": 0}, {"layers": 10**9}, {"num_labels": 10**7}, {"label2id": {"a": 0}}])
def test_numbers_out_of_range_are_refused(changes):
    with pytest.raises(Misfit):
        changed(**changes)


def test_answers_are_spans_with_a_start_and_an_end():
    assert spec(head_type="question_answering", label2id={"LABEL_0": 0, "LABEL_1": 1}).labels == ("start", "end")
    with pytest.raises(Misfit, match="two outputs"):
        spec(head_type="question_answering", num_labels=3)


def test_choices_keep_the_names_that_someone_gave_them():
    numbered = {"LABEL_0": 0, "LABEL_1": 1}
    assert spec(head_type="multiple_choice", label2id=numbered).labels == ()
    named = spec(head_type="multiple_choice", num_choices=2, label2id={"yes": 0, "no": 1})
    assert (named.labels, named.choices) == (("yes", "no"), 2)
    assert config_of(named, BERT)["label2id"] == {"yes": 0, "no": 1}
    assert config_of(replace(named, labels=()), BERT)["label2id"] == numbered
    with pytest.raises(Misfit, match="fixed number of choices"):
        config_of(replace(named, labels=(), choices=None), BERT)


def test_labels_may_come_by_their_ids():
    config = {"head_type": "tagging", "id2label": {"0": "O", "1": "B"}}
    assert spec(**config).labels == ("O", "B")
    assert names_labels(config)
    assert not names_labels({"head_type": "tagging"})
    assert names_labels({"head_type": "masked_lm"})


@pytest.mark.parametrize(
    ("head_type", "members"),
    [
        ("classification", {"num_labels", "layers", "activation_function", "bias", "use_pooler", "dropout_prob"}),
        ("tagging", {"num_labels", "layers", "activation_function", "dropout_prob"}),
        ("question_answering", {"num_labels", "layers", "activation_function", "dropout_prob"}),
        ("multiple_choice", {"num_choices", "layers", "activation_function", "use_pooler", "dropout_prob"}),
        ("dependency_parsing", {"num_labels"}),
        (
            "masked_lm",
            {
                "vocab_size",
                "embedding_size",
                "layers",
                "activation_function",
                "layer_norm",
                "bias",
                "shift_labels",
            },
        ),
    ],
)
def test_a_configuration_has_exactly_the_members_that_the_library_s_class_takes(head_type, members):
    assert config_of(spec(head_type=head_type), BERT).keys() == members | {"head_type", "label2id"}
