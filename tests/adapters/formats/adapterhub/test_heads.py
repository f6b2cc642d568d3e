from dataclasses import replace

import pytest
import torch

from adapters.architectures.encoders import BERT
from adapters.errors import Misfit
from adapters.formats.adapterhub.heads import read, write, write_like
from adapters.formats.labels import UNNAMED
from adapters.heads.table import head_reasons, head_shapes
from tests.adapters.formats.folders import H, head_config, head_keys, profile, saved, tensors

STATIC = {"model_class": "BertForSequenceClassification", "name": None, "num_labels": 2, "label2id": {"n": 0, "p": 1}}
GEOMETRY = replace(profile().geometry, norm_eps=1e-7, activation="gelu_new")
LANGUAGE = {
    "head_type": "masked_lm",
    "vocab_size": 20,
    "embedding_size": 4,
    "layers": 2,
    "activation_function": "gelu",
    "layer_norm": True,
    "bias": True,
    "shift_labels": False,
    "label2id": None,
}
LANGUAGE_KEYS = {
    "heads.a.0.weight": (4, H),
    "heads.a.0.bias": (4,),
    "heads.a.2.weight": (4,),
    "heads.a.2.bias": (4,),
    "heads.a.3.weight": (20, 4),
    "heads.a.3.bias": (20,),
}
PARSE = {"head_type": "dependency_parsing", "num_labels": 2, "label2id": {"obj": 1, "nsubj": 0}}
PARSE_KEYS = {"heads.a.biaffine_arcs.weight": (1, H + 1, H), "heads.a.biaffine_rels.weight": (2, H + 1, H + 1)}
SPANS = {
    "head_type": "question_answering",
    "num_labels": 2,
    "layers": 1,
    "activation_function": "tanh",
    "label2id": {"LABEL_0": 0, "LABEL_1": 1},
    "dropout_prob": None,
}
SPAN_KEYS = {"heads.a.1.weight": (2, H), "heads.a.1.bias": (2,)}
CHOICES = {
    "head_type": "multiple_choice",
    "num_choices": 3,
    "layers": 2,
    "activation_function": "tanh",
    "use_pooler": False,
    "label2id": {"LABEL_0": 0, "LABEL_1": 1, "LABEL_2": 2},
    "dropout_prob": None,
}
CHOICE_KEYS = {**head_keys(), "heads.a.4.weight": (1, H), "heads.a.4.bias": (1,)}
KINDS = [
    (head_config(), head_keys()),
    (LANGUAGE, LANGUAGE_KEYS),
    (PARSE, PARSE_KEYS),
    (SPANS, SPAN_KEYS),
    (CHOICES, CHOICE_KEYS),
]


def flexible(shapes=None, **changes):
    return read(saved(head_config(**changes)), tensors(shapes or head_keys()), GEOMETRY)


def test_a_flexible_head_reads_its_maps_in_order_and_its_labels_by_id():
    held = tensors(head_keys())
    head = read(saved(head_config()), held, GEOMETRY)
    assert head.spec.labels == ("neg", "neu", "pos")
    assert (head.spec.type, head.spec.layers, head.spec.activation, head.spec.pooling) == (
        "classification",
        2,
        "tanh",
        "first_token",
    )
    assert torch.equal(head.tensors["head/1/weight"], held["heads.a.4.weight"])
    assert head.warnings == ()


@pytest.mark.parametrize(("config", "keys"), KINDS)
def test_every_kind_reads_as_tensors_that_it_runs_on_and_writes_the_same_keys(config, keys):
    held, whole = tensors(keys), saved(config)
    head = read(whole, held, GEOMETRY)
    assert {name: tuple(t.shape) for name, t in head.tensors.items()} == head_shapes(head.spec, H)
    assert head_reasons(head.spec, H, has_pooler=False) == []
    stored = write_like(whole, head.spec, head.tensors)
    assert stored is not None
    assert stored.keys() == held.keys()
    assert all(torch.equal(stored[key], tensor) for key, tensor in held.items())


@pytest.mark.parametrize(("config", "keys"), KINDS)
def test_a_head_from_elsewhere_is_written_as_a_flexible_one_that_reads_the_same(config, keys):
    head = read(saved(config), tensors(keys), GEOMETRY)
    members, stored = write(head.spec, head.tensors, "a", BERT)
    again = read(saved(None) | members, stored, GEOMETRY)
    assert again.spec == head.spec
    assert all(torch.equal(again.tensors[name], tensor) for name, tensor in head.tensors.items())


@pytest.mark.parametrize("changes", [{"head_type": "tagging"}, {"use_pooler": True}, {"activation_function": None}])
def test_the_settings_of_a_head_from_elsewhere_come_back(changes):
    step = 4 if changes.get("activation_function", "x") else 3
    shapes = {key.replace(".4.", f".{step}."): shape for key, shape in head_keys().items()}
    config = head_config(**changes)
    if changes.get("head_type") == "tagging":
        del config["use_pooler"]
    head = read(saved(config), tensors(shapes), GEOMETRY)
    members, stored = write(head.spec, head.tensors, "a", BERT)
    assert read(saved(None) | members, stored, GEOMETRY).spec == head.spec


def test_a_head_without_biases_is_written_with_ones_that_do_nothing():
    head = read(saved(SPANS), tensors(SPAN_KEYS), GEOMETRY)
    bare = {name: tensor for name, tensor in head.tensors.items() if name.endswith("weight")}
    members, stored = write(replace(head.spec, bias=False), bare, "a", BERT)
    assert "bias" not in members["config"]
    assert not stored["heads.a.1.bias"].any()
    with pytest.raises(Misfit, match="lacks head/0/weight"):
        write(head.spec, {}, "a", BERT)


def test_one_layer_without_bias_has_none():
    head = flexible({"heads.a.1.weight": (3, H)}, layers=1, bias=False)
    assert not head.spec.bias
    assert set(head.tensors) == {"head/0/weight"}


def test_a_missing_last_bias_of_several_layers_is_zero():
    shapes = {key: shape for key, shape in head_keys().items() if key != "heads.a.4.bias"}
    head = flexible(shapes, bias=False)
    assert head.spec.bias
    assert torch.equal(head.tensors["head/1/bias"], torch.zeros(3))


def test_a_vocabulary_s_norm_has_the_backbone_s_epsilon():
    head = read(saved(LANGUAGE), tensors(LANGUAGE_KEYS), GEOMETRY)
    assert (head.spec.norm_eps, head.spec.activation, head.spec.width, head.spec.vocabulary) == (1e-7, "gelu", 4, 20)
    assert torch.equal(head.tensors["head/0/norm.weight"], tensors(LANGUAGE_KEYS)["heads.a.2.weight"])


def test_labels_without_names_are_numbered_and_the_operator_is_told():
    head = flexible(label2id=None)
    assert head.spec.labels == ("LABEL_0", "LABEL_1", "LABEL_2")
    assert head.warnings == (UNNAMED,)
    assert read(saved(LANGUAGE), tensors(LANGUAGE_KEYS), GEOMETRY).warnings == ()


def test_every_missing_and_left_over_key_is_named():
    shapes = head_keys() | {"heads.a.7.weight": (3, H)}
    del shapes["heads.a.1.bias"], shapes["heads.a.4.weight"]
    with pytest.raises(Misfit) as caught:
        flexible(shapes)
    assert len(caught.value.reasons) == 3
    with pytest.raises(Misfit, match="neither an object nor null"):
        read(saved([1]), {}, GEOMETRY)


def test_tensors_of_heads_whose_names_begin_alike_are_left_out_and_told():
    held = {**tensors(head_keys()), "heads.ab.1.weight": torch.ones(2, 2)}
    head = read(saved(head_config()), held, GEOMETRY)
    assert head.tensors.keys() == read(saved(head_config()), tensors(head_keys()), GEOMETRY).tensors.keys()
    assert any("1 tensors of other heads" in warning for warning in head.warnings)
    with pytest.raises(Misfit, match=r"heads\.b\.1\.weight belongs to no part"):
        read(saved(head_config()), {**tensors(head_keys()), "heads.b.1.weight": torch.ones(2, 2)}, GEOMETRY)


def test_a_static_head_reads_with_its_labels():
    held = tensors({"classifier.weight": (2, H), "classifier.bias": (2,)})
    head = read(saved(None, **STATIC), held, GEOMETRY)
    assert (head.spec.pooling, head.spec.layers, head.spec.labels) == ("pooler", 1, ("n", "p"))
    with pytest.raises(Misfit, match="no causal head of 'bert'"):
        read(saved(None, **STATIC | {"model_class": "BertLMHeadModel"}), held, GEOMETRY)


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
    head = read(whole, held, GEOMETRY)
    assert set(write_like(whole, head.spec, head.tensors)) == set(held)
    assert write_like(whole | {"model_type": "gptj"}, head.spec, head.tensors) is None


def test_a_static_head_over_the_vocabulary_keeps_both_copies_of_its_bias():
    keys = {
        "cls.predictions.transform.dense.weight": (H, H),
        "cls.predictions.transform.dense.bias": (H,),
        "cls.predictions.transform.LayerNorm.weight": (H,),
        "cls.predictions.transform.LayerNorm.bias": (H,),
        "cls.predictions.decoder.weight": (20, H),
        "cls.predictions.decoder.bias": (20,),
    }
    held = tensors(keys)
    held["cls.predictions.bias"] = held["cls.predictions.decoder.bias"].clone()
    whole = saved(None, model_class="BertForMaskedLM", name=None, label2id={"LABEL_0": 0, "LABEL_1": 1})
    head = read(whole, held, GEOMETRY)
    assert (head.spec.activation, head.spec.norm_eps, head.spec.labels) == ("gelu_new", 1e-7, ())
    stored = write_like(whole, head.spec, head.tensors)
    assert stored.keys() == held.keys()
    assert not head.spec.inverse
    with pytest.raises(Misfit, match="undo an invertible adapter"):
        write(head.spec, head.tensors, "a", BERT)


@pytest.mark.parametrize(("version", "inverse"), [("adapters.1.0.0", False), ("3.2.1", True), (None, True)])
def test_the_classes_of_the_old_library_undid_an_invertible_adapter(version, inverse):
    keys = {
        f"vocab_{part}.{kind}": (H,) for part in ("transform", "layer_norm", "projector") for kind in ("weight", "bias")
    }
    keys |= {"vocab_transform.weight": (H, H), "vocab_projector.weight": (20, H), "vocab_projector.bias": (20,)}
    whole = saved(None, "distilbert", model_class="DistilBertForMaskedLM", name=None, version=version)
    if version is None:
        del whole["version"]
    head = read(whole, tensors(keys), GEOMETRY)
    assert head.spec.inverse is inverse
    assert set(write_like(whole, head.spec, head.tensors)) == set(keys)
