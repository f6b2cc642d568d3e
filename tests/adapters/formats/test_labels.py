import pytest
import torch

from adapters.errors import Misfit
from adapters.formats.labels import OTHERS, UNNAMED, of_head, ordered, problem_of, relabel, unnamed
from adapters.manifest import HeadSpec, Manifest
from adapters.requires import Requires
from adapters.weights import Package

REQUIRES = Requires("bert", 8, 2, 2)


POOLING = {"tagging": "tokens", "question_answering": "tokens", "masked_lm": "tokens", "dependency_parsing": "tokens"}


def package(head_type="classification", outputs=3, **more):
    labels = () if head_type in ("masked_lm", "multiple_choice") else unnamed(outputs)
    pooling = POOLING.get(head_type, "first_token")
    spec = HeadSpec(head_type, 1, None, True, pooling, labels, problem_of(head_type, outputs), **more)
    manifest = Manifest("head", REQUIRES, head=spec, source={"warnings": [UNNAMED, "other"]})
    return Package(manifest, {"head/0/weight": torch.zeros(outputs, 8)})


def test_labels_come_in_the_order_of_their_ids():
    assert ordered({"pos": 2, "neg": 0, "neu": 1}, 3) == ("neg", "neu", "pos")
    assert ordered({"b": "1", "a": "0"}, 2) == ("a", "b")
    assert ordered(None, 3) is None


@pytest.mark.parametrize("label2id", [{"a": 0}, {"a": 0, "b": 2}, {"a": 0, "b": 0}, {"a": 0, "b": "x"}, ["a", "b"]])
def test_ids_that_do_not_number_the_outputs_are_refused(label2id):
    with pytest.raises(Misfit, match="label2id"):
        ordered(label2id, 2)


@pytest.mark.parametrize(
    ("head_type", "outputs", "problem"),
    [
        ("classification", 3, "single_label"),
        ("classification", 1, "regression"),
        ("multilabel_classification", 1, "multi_label"),
        ("tagging", 1, "token"),
        ("question_answering", 2, "span"),
        ("multiple_choice", 1, "choice"),
        ("masked_lm", 0, "vocabulary"),
        ("dependency_parsing", 5, "tree"),
    ],
)
def test_the_problem_follows_type_and_outputs(head_type, outputs, problem):
    assert problem_of(head_type, outputs) == problem


def test_names_replace_numbers_and_silence_their_warning_alone():
    named = relabel(package(), ["x", "y", "z"], None).manifest
    assert named.head.labels == ("x", "y", "z")
    assert named.source["warnings"] == ["other"]


def test_a_problem_type_changes_the_type_of_head():
    head = relabel(package(), None, "multi_label").manifest.head
    assert (head.type, head.problem_type) == ("multilabel_classification", "multi_label")
    assert relabel(package("tagging"), None, "token").manifest.head.type == "tagging"


@pytest.mark.parametrize(
    ("head_type", "labels", "problem", "message"),
    [
        ("classification", ["x"], None, "3 outputs"),
        ("classification", ["x", "x", "y"], None, "different"),
        ("classification", None, "regression", "one output"),
        ("classification", None, "token", "can not answer"),
        ("tagging", None, "single_label", "can not answer"),
        ("question_answering", None, "single_label", "can not answer"),
        ("classification", None, "span", "can not answer"),
        ("question_answering", ["x", "y", "z"], None, "no labels to be named"),
        ("masked_lm", ["x", "y", "z"], None, "no labels to be named"),
        ("multiple_choice", ["x", "y"], None, "any number of choices"),
        ("classification", None, "nonsense", "none of"),
    ],
)
def test_what_does_not_fit_the_head_is_refused(head_type, labels, problem, message):
    with pytest.raises(Misfit, match=message):
        relabel(package(head_type), labels, problem)


def test_relations_and_a_fixed_number_of_choices_can_be_named():
    assert relabel(package("dependency_parsing", 2), ["nsubj", "obj"], None).manifest.head.labels == ("nsubj", "obj")
    choices = package("multiple_choice", choices=2)
    assert relabel(choices, ["yes", "no"], None).manifest.head.labels == ("yes", "no")
    with pytest.raises(Misfit, match="2 outputs"):
        relabel(choices, ["yes"], None)
    assert relabel(choices, None, "choice").manifest.head == choices.manifest.head


def test_labels_without_a_head_are_refused():
    with pytest.raises(Misfit, match="no"):
        relabel(Package(Manifest("adapter", REQUIRES), {}), ["x"], None)


def test_nothing_asked_changes_nothing():
    held = package()
    assert relabel(held, None, None) is held


def test_what_is_said_of_a_head_is_told_from_what_is_said_of_its_adapter():
    assert of_head(UNNAMED)
    assert of_head(OTHERS.format(3))
    assert not of_head("AdapterHub does not store whether a ReFT subtracts")
