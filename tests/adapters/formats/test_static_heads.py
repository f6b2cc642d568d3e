import pytest

from adapters.errors import Misfit
from adapters.formats.static_heads import SEQUENCE, TOKEN, like, names, read, task_of
from tests.adapters.formats.folders import H, tensors


def linear(*stems, labels=3):
    shapes = {}
    for stem in stems:
        rows = labels if stem == stems[-1] else H
        shapes |= {f"{stem}.weight": (rows, H), f"{stem}.bias": (rows,)}
    return shapes


CASES = [
    ("bert", SEQUENCE, ("classifier",), (1, None, "pooler")),
    ("bert", SEQUENCE, ("bert.pooler.dense", "classifier"), (2, "tanh", "first_token")),
    ("roberta", SEQUENCE, ("classifier.dense", "classifier.out_proj"), (2, "tanh", "first_token")),
    ("xlm-roberta", SEQUENCE, ("classifier.dense", "classifier.out_proj"), (2, "tanh", "first_token")),
    ("distilbert", SEQUENCE, ("pre_classifier", "classifier"), (2, "relu", "first_token")),
    ("bert", TOKEN, ("classifier",), (1, None, "tokens")),
    ("roberta", TOKEN, ("classifier",), (1, None, "tokens")),
    ("distilbert", TOKEN, ("classifier",), (1, None, "tokens")),
]


@pytest.mark.parametrize(("family", "task", "stems", "shape"), CASES)
def test_a_class_s_head_reads_as_what_it_computes(family, task, stems, shape):
    held = tensors(linear(*stems))
    head = read(held, family, task)
    assert (head.spec.layers, head.spec.activation, head.spec.pooling) == shape
    assert head.spec.labels == ("LABEL_0", "LABEL_1", "LABEL_2")
    assert head.spec.type == ("tagging" if task == TOKEN else "classification")
    assert head.tensors[f"head/{shape[0] - 1}/weight"] is held[f"{stems[-1]}.weight"]


@pytest.mark.parametrize(("family", "task", "stems", "shape"), CASES)
def test_the_class_is_found_again_from_the_head(family, task, stems, shape):
    found = like(read(tensors(linear(*stems)), family, task).spec, family)
    assert found is not None
    assert (found[0], found[1].maps) == (task, stems)
    assert set(names(found[1]).values()) == set(linear(*stems))


def test_a_single_output_is_a_regression():
    assert read(tensors(linear("classifier", labels=1)), "bert", SEQUENCE).spec.problem_type == "regression"


def test_missing_and_left_over_keys_are_all_named():
    with pytest.raises(Misfit) as caught:
        read(tensors({"classifier.weight": (3, H), "score.weight": (3, H)}), "bert", TOKEN)
    assert [reason.split()[-1] for reason in caught.value.reasons] == ["classifier.bias", "served"]


def test_families_and_classes_without_a_head_are_refused():
    with pytest.raises(Misfit, match="gpt2"):
        read({}, "gpt2", SEQUENCE)
    with pytest.raises(Misfit, match="BertForQuestionAnswering"):
        task_of("BertForQuestionAnswering")
    assert task_of("DistilBertForTokenClassification") == TOKEN
    assert like(read(tensors(linear("classifier")), "bert", SEQUENCE).spec, "roberta") is None
