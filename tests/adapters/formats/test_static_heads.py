import pytest
import torch

from adapters.errors import Misfit
from adapters.formats.labels import UNNAMED
from adapters.formats.static_classes import CHOICE, LANGUAGE, NEXT, QUESTION, SEQUENCE, TASKS, TOKEN, names, task_of
from adapters.formats.static_heads import OwnSettings, like, own_settings, read
from adapters.heads.table import head_reasons, head_shapes
from tests.adapters.formats.folders import H, profile, tensors

OWN = OwnSettings(1e-7, "silu", 20, 4)
VOCABULARY, WIDTH = 20, 4


def linear(*stems, labels=3):
    shapes = {}
    for stem in stems:
        rows = labels if stem == stems[-1] else H
        shapes |= {f"{stem}.weight": (rows, H), f"{stem}.bias": (rows,)}
    return shapes


def language(dense, norm, decoder):
    return {
        f"{dense}.weight": (WIDTH, H),
        f"{dense}.bias": (WIDTH,),
        f"{norm}.weight": (WIDTH,),
        f"{norm}.bias": (WIDTH,),
        f"{decoder}.weight": (VOCABULARY, WIDTH),
        f"{decoder}.bias": (VOCABULARY,),
    }


CLASSIFIER = ("classifier.dense", "classifier.out_proj")
FAMILIES = ("bert", "roberta", "xlm-roberta", "distilbert", "electra", "albert", "deberta-v2")
CASES = [
    ("bert", SEQUENCE, ("classifier",), (1, None, "pooler")),
    ("bert", SEQUENCE, ("bert.pooler.dense", "classifier"), (2, "tanh", "first_token")),
    ("roberta", SEQUENCE, CLASSIFIER, (2, "tanh", "first_token")),
    ("xlm-roberta", SEQUENCE, CLASSIFIER, (2, "tanh", "first_token")),
    ("distilbert", SEQUENCE, ("pre_classifier", "classifier"), (2, "relu", "first_token")),
    ("electra", SEQUENCE, CLASSIFIER, (2, "gelu", "first_token")),
    ("albert", SEQUENCE, ("classifier",), (1, None, "pooler")),
    ("deberta-v2", SEQUENCE, ("pooler.dense", "classifier"), (2, "gelu", "first_token")),
    *((family, TOKEN, ("classifier",), (1, None, "tokens")) for family in FAMILIES),
]
OTHERS = [
    *((family, QUESTION, ("qa_outputs",), (1, None, "tokens")) for family in FAMILIES),
    ("bert", CHOICE, ("classifier",), (1, None, "pooler")),
    ("roberta", CHOICE, ("classifier",), (1, None, "pooler")),
    ("xlm-roberta", CHOICE, ("classifier",), (1, None, "pooler")),
    ("albert", CHOICE, ("classifier",), (1, None, "pooler")),
    ("distilbert", CHOICE, ("pre_classifier", "classifier"), (2, "relu", "first_token")),
    ("electra", CHOICE, ("sequence_summary.summary", "classifier"), (2, "gelu", "first_token")),
    ("deberta-v2", CHOICE, ("pooler.dense", "classifier"), (2, "gelu", "first_token")),
]
CLS = "cls.predictions.transform.dense", "cls.predictions.transform.LayerNorm", "cls.predictions.decoder"
LM = "lm_head.dense", "lm_head.layer_norm", "lm_head.decoder"
VOCABULARIES = [
    ("bert", CLS, "cls.predictions.bias", "silu"),
    ("deberta-v2", CLS, "cls.predictions.bias", "silu"),
    ("roberta", LM, "lm_head.bias", "gelu"),
    ("xlm-roberta", LM, "lm_head.bias", "gelu"),
    ("distilbert", ("vocab_transform", "vocab_layer_norm", "vocab_projector"), None, "silu"),
    (
        "electra",
        ("generator_predictions.dense", "generator_predictions.LayerNorm", "generator_lm_head"),
        None,
        "gelu",
    ),
    ("albert", ("predictions.dense", "predictions.LayerNorm", "predictions.decoder"), "predictions.bias", "silu"),
]


@pytest.mark.parametrize(("family", "task", "stems", "shape"), CASES)
def test_a_class_s_head_reads_as_what_it_computes(family, task, stems, shape):
    held = tensors(linear(*stems))
    head = read(held, family, task)
    assert (head.spec.layers, head.spec.activation, head.spec.pooling) == shape
    assert head.spec.labels == ("LABEL_0", "LABEL_1", "LABEL_2")
    assert head.spec.type == ("tagging" if task == TOKEN else "classification")
    assert head.tensors[f"head/{shape[0] - 1}/weight"] is held[f"{stems[-1]}.weight"]
    assert head.warnings == (UNNAMED,)


@pytest.mark.parametrize(("family", "task", "stems", "shape"), OTHERS)
def test_spans_and_choices_read_without_labels_to_name(family, task, stems, shape):
    labels = 2 if task == QUESTION else 1
    head = read(tensors(linear(*stems, labels=labels)), family, task)
    assert (head.spec.layers, head.spec.activation, head.spec.pooling) == shape
    assert head.spec.labels == (("start", "end") if task == QUESTION else ())
    assert head.spec.choices is None
    assert head.warnings == ()
    assert head_reasons(head.spec, H, has_pooler=True) == []
    assert {name: tuple(t.shape) for name, t in head.tensors.items()} == head_shapes(head.spec, H)


@pytest.mark.parametrize(("family", "stems", "copy", "activation"), VOCABULARIES)
def test_heads_over_the_vocabulary_take_what_their_class_takes_from_the_backbone(family, stems, copy, activation):
    held = tensors(language(*stems))
    if copy:
        held[copy] = held[f"{stems[2]}.bias"].clone()
    head = read(held, family, LANGUAGE, OWN)
    assert (head.spec.activation, head.spec.norm_eps) == (activation, 1e-7)
    assert (head.spec.vocabulary, head.spec.width) == (VOCABULARY, WIDTH)
    assert head_reasons(head.spec, H, has_pooler=False) == []
    assert {name: tuple(t.shape) for name, t in head.tensors.items()} == head_shapes(head.spec, H)
    found = like(head.spec, family, [LANGUAGE])
    assert found is not None
    assert found[1].maps == (stems[0], stems[2])


def test_a_copy_may_stand_alone_but_not_contradict():
    held = tensors(language(*LM))
    held["lm_head.bias"] = held.pop("lm_head.decoder.bias")
    assert read(held, "roberta", LANGUAGE, OWN).tensors["head/1/bias"] is held["lm_head.bias"]
    held["lm_head.decoder.bias"] = held["lm_head.bias"] + 1
    with pytest.raises(Misfit, match=r"copies of lm_head\.decoder\.bias differ"):
        read(held, "roberta", LANGUAGE, OWN)


def test_a_head_over_the_vocabulary_is_read_for_a_backbone():
    with pytest.raises(Misfit, match="for a backbone"):
        read(tensors(language(*LM)), "roberta", LANGUAGE)
    geometry = profile().geometry
    assert own_settings(geometry) == OwnSettings(geometry.norm_eps, geometry.activation, 20, H)


@pytest.mark.parametrize(("family", "task", "stems", "shape"), CASES)
def test_the_class_is_found_again_from_the_head(family, task, stems, shape):
    found = like(read(tensors(linear(*stems)), family, task).spec, family)
    assert found is not None
    assert (found[0], found[1].maps) == (task, stems)
    assert set(names(found[1]).values()) == set(linear(*stems))


@pytest.mark.parametrize(("family", "task", "stems", "shape"), OTHERS)
def test_only_the_tasks_that_are_asked_for_are_found(family, task, stems, shape):
    spec = read(tensors(linear(*stems, labels=2 if task == QUESTION else 1)), family, task).spec
    assert like(spec, family) is None
    found = like(spec, family, TASKS.values())
    assert found is not None
    assert (found[0], found[1].maps) == (task, stems)


def test_a_single_output_is_a_regression():
    assert read(tensors(linear("classifier", labels=1)), "bert", SEQUENCE).spec.problem_type == "regression"


def test_missing_and_left_over_keys_are_all_named():
    with pytest.raises(Misfit) as caught:
        read(tensors({"classifier.weight": (3, H), "score.weight": (3, H)}), "bert", TOKEN)
    assert sorted(reason.split()[-1] for reason in caught.value.reasons) == ["classifier.bias", "served"]


def test_families_and_classes_without_a_head_are_refused():
    with pytest.raises(Misfit, match="gptj"):
        read({}, "gptj", SEQUENCE)
    with pytest.raises(Misfit, match="BertForPreTraining"):
        task_of("BertForPreTraining")
    assert task_of("DistilBertForTokenClassification") == TOKEN
    assert task_of("XLMRobertaForMaskedLM") == LANGUAGE
    assert like(read(tensors(linear("classifier")), "bert", SEQUENCE).spec, "roberta") is None
    assert torch.is_tensor(read(tensors(linear("classifier")), "bert", SEQUENCE).tensors["head/0/bias"])


MODERNBERT = {
    "head.dense.weight": (H, H),
    "head.norm.weight": (H,),
    "classifier.weight": (3, H),
    "classifier.bias": (3,),
}


@pytest.mark.parametrize(("task", "pooling"), [(SEQUENCE, "first_token"), (TOKEN, "tokens"), (QUESTION, "tokens")])
def test_modernbert_has_no_biases_in_front_and_a_norm_behind_the_activation(task, pooling):
    held = tensors(MODERNBERT)
    head = read(held, "modernbert", task)
    assert (head.spec.layers, head.spec.activation, head.spec.norm_eps, head.spec.pooling) == (2, "gelu", 1e-5, pooling)
    assert {name: tuple(tensor.shape) for name, tensor in head.tensors.items()} == head_shapes(head.spec, H)
    assert not head.tensors["head/0/bias"].any()
    assert not head.tensors["head/0/norm.bias"].any()
    found = like(head.spec, "modernbert", (task,))
    assert found is not None
    assert set(names(found[1]).values()) == set(held)


@pytest.mark.parametrize("task", [SEQUENCE, CHOICE])
def test_a_head_of_modernbert_reads_the_mean_where_the_backbone_says_so(task):
    averaged, held = OwnSettings(1e-5, "gelu", 20, 4, averaged=True), tensors(MODERNBERT)
    head = read(held, "modernbert", task, averaged)
    assert (head.spec.pooling, read(held, "modernbert", task).spec.pooling) == ("mean", "first_token")
    found = like(head.spec, "modernbert", (task,))
    assert found is not None
    assert (found[1].pooling, set(names(found[1]).values())) == ("mean", set(held))
    assert read(held, "modernbert", TOKEN, averaged).spec.pooling == "tokens"


def test_modernbert_reads_words_with_its_own_norm_and_no_bias_in_front():
    held = {name: tensor for name, tensor in tensors(MODERNBERT).items() if name.startswith("head")}
    held |= {"decoder.weight": torch.randn(20, H), "decoder.bias": torch.randn(20)}
    head = read(held, "modernbert", LANGUAGE, OwnSettings(1e-12, "relu", 20, H))
    assert (head.spec.activation, head.spec.norm_eps, head.spec.vocabulary) == ("gelu", 1e-5, 20)
    assert {name: tuple(tensor.shape) for name, tensor in head.tensors.items()} == head_shapes(head.spec, H)


def test_whether_a_sentence_follows_is_told_from_the_pooled_state():
    head = read(tensors(linear("cls.seq_relationship")), "bert", NEXT)
    assert (head.spec.type, head.spec.pooling) == ("classification", "pooler")
