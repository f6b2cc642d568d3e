import pytest
import torch
from transformers import set_seed

from adapters.errors import InvalidName, Misfit
from adapters.formats import native
from adapters.heads.question_answering import LABELS
from adapters.model import AdapterModel
from tests.adapters import builders

IDS = torch.from_numpy(builders.ids(1, 12)).view(2, 6)


@pytest.fixture
def model() -> AdapterModel:
    set_seed(0)
    return AdapterModel.from_pretrained(builders.folder("bert"))


def test_a_classification_head_has_adapterhubs_defaults(model):
    model.add_classification_head("c", num_labels=3)
    spec = model.heads["c"].manifest.head
    assert (spec.type, spec.layers, spec.activation, spec.pooling) == ("classification", 2, "tanh", "first_token")
    assert (spec.problem_type, spec.labels, spec.name) == ("single_label", ("LABEL_0", "LABEL_1", "LABEL_2"), "c")
    assert model.active_head == "c"
    assert model.heads["c"].trains
    assert model(IDS).logits.shape == (2, 3)


def test_classification_has_its_variants(model):
    model.add_classification_head("m", 2, multilabel=True, id2label={1: "b", 0: "a"}, layers=1, use_pooler=True)
    spec = model.heads["m"].manifest.head
    assert (spec.type, spec.labels, spec.pooling) == ("multilabel_classification", ("a", "b"), "pooler")
    assert spec.activation is None
    model.add_classification_head("r", num_labels=1)
    assert model.heads["r"].manifest.head.problem_type == "regression"
    assert model(IDS, labels=torch.tensor([0.5, 1.0])).loss > 0


def test_the_other_kinds_answer_in_their_own_shapes(model):
    model.add_tagging_head("t", num_labels=4)
    assert model(IDS).logits.shape == (2, 6, 4)
    model.add_qa_head("q")
    assert model.heads["q"].manifest.head.labels == LABELS
    assert model(IDS).start_logits.shape == model(IDS).end_logits.shape == (2, 6)
    model.add_multiple_choice_head("m", num_choices=2, id2label={0: "no", 1: "yes"})
    assert model(IDS[None]).logits.shape == (1, 2)
    model.add_dependency_parsing_head("d", num_labels=3)
    parsed = model(IDS, word_starts=[[1, 2, 5], [1, 4, 5]])
    assert (parsed.arc_preds.shape, parsed.rel_preds.shape) == ((2, 2, 3), (2, 2, 3, 3))


def test_a_language_head_begins_with_the_word_vectors_themselves(model):
    model.add_masked_lm_head("lm")
    tensors = model.heads["lm"].tensors()
    assert torch.equal(tensors["head/1/weight"].detach(), model.word_vectors("default"))
    assert tensors["head/1/weight"].data_ptr() != model.backbone.model.get_input_embeddings().weight.data_ptr()
    assert bool((tensors["head/0/norm.weight"] == 1).all())
    assert model(IDS).logits.shape == (2, 6, builders.VOCABULARY)
    model.add_masked_lm_head("plain", layers=1, bias=False)
    states = model(IDS, head="plain", output_hidden_states=True)
    assert torch.allclose(states.logits, states.hidden_states[-1] @ model.word_vectors("default").T, atol=1e-5)


def test_labels_must_be_numbered_from_zero(model):
    with pytest.raises(ValueError, match="labels 0 to 1, not"):
        model.add_tagging_head("t", id2label={1: "a", 2: "b"})
    with pytest.raises(Misfit, match="activation"):
        model.add_classification_head("c", activation_function="magic")


def test_a_name_is_taken_once_unless_it_may_be_overwritten(model):
    model.add_classification_head("c")
    with pytest.raises(ValueError, match="already"):
        model.add_tagging_head("c")
    model.add_tagging_head("c", overwrite_ok=True)
    assert model.heads["c"].manifest.head.type == "tagging"


KINDS = ["classification", "tagging", "qa", "multiple_choice", "masked_lm", "dependency_parsing"]


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_survives_saving_and_loading(model, kind, tmp_path):
    getattr(model, f"add_{kind}_head")("mine")
    model.save_head(tmp_path / "mine")
    other = AdapterModel.from_pretrained(builders.folder("bert"))
    assert other.load_head(tmp_path / "mine") == "mine"
    assert other.active_head == "mine"
    assert not other.heads["mine"].trains
    one, two = model.heads["mine"].package(), other.heads["mine"].package()
    assert all(torch.equal(tensor, two.tensors[name]) for name, tensor in one.tensors.items())
    assert two.manifest.head == one.manifest.head


def test_a_head_changes_its_name_on_the_way(model, tmp_path):
    model.add_tagging_head("a")
    model.add_qa_head("b")
    model.save_all_heads(tmp_path)
    assert model.load_head(tmp_path / "a", load_as="c") == "c"
    model.save_head(tmp_path / "c", "c")
    assert model.load_head(tmp_path / "c") == "c"
    (tmp_path / "n.safetensors").write_bytes(native.write(model.heads["b"].package()))
    assert model.load_head(tmp_path / "n.safetensors") == "b"


def test_the_head_in_an_adapters_folder_can_be_loaded_alone(model, tmp_path):
    model.add_adapter("a")
    model.add_classification_head("a")
    model.save_adapter(tmp_path / "a", "a")
    model.save_adapter(tmp_path / "bare", "a", with_head=False)
    assert model.load_head(tmp_path / "a", load_as="again") == "again"
    with pytest.raises(Misfit, match="holds no head"):
        model.load_head(tmp_path / "bare")


def test_deleting_the_active_head_leaves_none_active(model, tmp_path):
    model.add_tagging_head("a")
    model.delete_head("a")
    assert model.active_head is None
    assert "last_hidden_state" in model(IDS)
    with pytest.raises(ValueError, match="no active head"):
        model.save_head(tmp_path)
    model.delete_head("a")  # as in AdapterHub, what is not here needs no deleting


def test_arguments_have_adapterhubs_order(model):
    model.add_classification_head("c", 3, 1, None, True, True, {0: "a", 1: "b", 2: "c"}, True)
    spec = model.heads["c"].manifest.head
    assert (spec.type, spec.layers, spec.pooling) == ("multilabel_classification", 1, "pooler")
    assert model.get_labels() == ["a", "b", "c"]
    model.add_tagging_head("t", 2, 2, "relu", True, {0: "o", 1: "x"})
    assert model.get_labels_dict("t") == {0: "o", 1: "x"}
    model.add_multiple_choice_head("m", 3, 1, None, True, {0: "a", 1: "b", 2: "c"}, True)
    assert model.heads["m"].manifest.head.choices == 3
    model.add_dependency_parsing_head("d", 2, True, {0: "r", 1: "s"})
    assert model.get_labels("d") == ["r", "s"]
    model.add_masked_lm_head("l", "relu", 3, True)
    spec = model.heads["l"].manifest.head
    assert (spec.activation, spec.layers) == ("relu", 3)
    model.add_qa_head("q", 2, 2, "relu", True)
    assert model.heads["q"].manifest.head.layers == 2
    with pytest.raises(ValueError, match="two outputs"):
        model.add_qa_head("q", 3)
    with pytest.raises(ValueError, match="two outputs"):
        model.add_qa_head("q", id2label={0: "a", 1: "b"})
    model.active_head = None
    with pytest.raises(ValueError, match="no active head"):
        model.get_labels()


def test_a_loaded_head_takes_other_labels(model, tmp_path):
    model.add_tagging_head("t", id2label={0: "o", 1: "x"})
    model.save_head(save_directory=tmp_path / "t", head_name="t", use_safetensors=True)
    model.load_head(tmp_path / "t", "renamed", {1: "new", 0: "old"})
    assert model.get_labels() == ["old", "new"]
    with pytest.raises(ValueError, match="labels 0 to 1"):
        model.load_head(tmp_path / "t", "renamed", {1: "new", 2: "old"})


@pytest.mark.parametrize("name", ["../out", "/out", "..", "."])
def test_heads_are_saved_below_the_folder_and_nowhere_else(model, name, tmp_path):
    model.add_tagging_head("fine")
    model.add_tagging_head(name)
    with pytest.raises(InvalidName, match="names no place inside"):
        model.save_all_heads(tmp_path / "all")
    assert not (tmp_path / "all").exists()
    model.save_head(tmp_path / "one", name)
    with pytest.raises(InvalidName, match="names no place inside"):
        model.load_head(tmp_path / "one")
    assert model.load_head(tmp_path / "one", load_as="safe") == "safe"
