import pytest

from adapters.architectures.families import ARCHITECTURES
from adapters.errors import Misfit
from adapters.formats.static_classes import HEADS, NEXT, SEQUENCE, TASKS, StaticHead, names, task_of


def test_every_task_of_every_family_names_its_maps_once():
    assert {family for family, _ in HEADS} == set(ARCHITECTURES)
    assert {task for _, task in HEADS} <= set(TASKS.values())
    for place, heads in HEADS.items():
        for head in heads:
            keys = list(names(head).values())
            assert len(keys) == len(set(keys)), place
            assert all(f"{path}.weight" in keys for path in head.maps), place


def test_what_a_class_lacks_has_no_key():
    head = StaticHead(("a", "b"), None, "tokens", "n", lacks=("head/0/bias", "head/0/norm.bias"))
    assert set(names(head).values()) == {"a.weight", "n.weight", "b.weight", "b.bias"}


def test_the_end_of_a_class_name_tells_its_task():
    assert task_of("ViTForImageClassification") == SEQUENCE
    assert task_of("BertForNextSentencePrediction") == NEXT
    with pytest.raises(Misfit, match="BertForPreTraining"):
        task_of("BertForPreTraining")
