"""AdapterHub's page on embeddings, its own lines with `adapters.model` in the place of its library."""

import json

import pytest
import torch
from transformers import AutoTokenizer

from adapters.errors import Misfit
from adapters.formats import native
from adapters.model import AdapterModel
from tests.adapters.door.documents import WORDS, bert_base_uncased, tokenizer


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    bert_base_uncased(tmp_path)
    return tmp_path


@pytest.fixture
def model(folder):
    return AdapterModel.from_pretrained("bert-base-uncased")


def test_the_page_line_by_line(model, folder):
    reference_tokenizer = AutoTokenizer.from_pretrained("bert-base-uncased")
    own = tokenizer(["film", "nuqneH", "plot"], folder / "klingon")

    model.add_embeddings("name", own, reference_embedding="default", reference_tokenizer=reference_tokenizer)
    embedding_name = model.active_embeddings
    assert embedding_name == "name"

    model.set_active_embedding("default")
    assert model.active_embeddings == "default"
    model.set_active_embedding("name")
    assert list(model.loaded_embeddings) == ["default", "name"]

    path = "path/to/dir"
    model.save_embeddings(path, "name")
    assert model.load_embeddings(path, "reloaded_name") is None
    assert model.active_embeddings == "reloaded_name"
    assert torch.equal(model.word_vectors("reloaded_name"), model.word_vectors("name"))

    model.delete_embeddings("reloaded_name")
    assert model.active_embeddings == "default"
    with pytest.raises(ValueError, match="default embedding is the backbone's own"):
        model.delete_embeddings("default")

    model.save_embeddings(path, "name", own)
    model = AdapterModel.from_pretrained("bert-base-uncased")
    loaded_tokenizer = model.load_embeddings(path, "name")
    assert loaded_tokenizer("film nuqneh plot")["input_ids"] == own("film nuqneh plot")["input_ids"]


def test_rows_of_tokens_in_both_vocabularies_are_copied_and_the_others_drawn(model, folder):
    reference = AutoTokenizer.from_pretrained("bert-base-uncased")
    own = tokenizer(["new", "film", "newer"], folder / "own")
    model.add_embeddings("a", own, "default", reference)
    model.add_embeddings("b", own, "default", reference)
    model.add_embeddings("c", own, "default", reference, seed=1)
    default, made = model.word_vectors("default"), model.word_vectors("a")
    ids, known = own.get_vocab(), reference.get_vocab()
    assert torch.equal(made[ids["film"]], default[known["film"]])
    assert torch.equal(made[ids["[SEP]"]], default[known["[SEP]"]])
    assert float(made[[ids["new"], ids["newer"]]].std()) == pytest.approx(0.02, rel=0.5)
    assert torch.equal(model.word_vectors("b"), made)
    assert not torch.equal(model.word_vectors("c"), made)


def test_the_active_vocabulary_is_what_ids_mean(model, folder):
    reference = AutoTokenizer.from_pretrained("bert-base-uncased")
    reversed_words = tokenizer(WORDS[::-1], folder / "reversed")
    model.add_embeddings("reversed", reversed_words, "default", reference)
    text = "the film is awesome"
    under_it = model(**reversed_words(text, return_tensors="pt"), adapter_names=[]).last_hidden_state
    wrong = model(**reference(text, return_tensors="pt"), adapter_names=[]).last_hidden_state
    model.set_active_embeddings("default")
    plain = model(**reference(text, return_tensors="pt"), adapter_names=[]).last_hidden_state
    assert torch.allclose(under_it, plain, atol=1e-6)
    assert not torch.allclose(wrong, plain, atol=1e-2)


def test_what_can_not_be_is_refused(model, folder):
    own = tokenizer(["new"], folder / "own")
    with pytest.raises(KeyError, match="both or neither"):
        model.add_embeddings("a", own, reference_embedding="default")
    with pytest.raises(KeyError, match="both or neither"):
        model.add_embeddings("a", own, reference_tokenizer=own)
    with pytest.raises(Misfit, match="32 wide, not 5"):
        model.add_embeddings("a", own, embedding_dim=5)
    model.add_embeddings("a", own)
    with pytest.raises(ValueError, match="already"):
        model.add_embeddings("a", own)
    with pytest.raises(ValueError, match="already"):
        model.load_embeddings("nowhere", "default")
    with pytest.raises(KeyError, match="no embedding 'b'; there are: default, a"):
        model.set_active_embeddings("b")
    with pytest.raises(ValueError, match="no embedding 'b'"):
        model.delete_embeddings("b")
    model.add_adapter("x")
    model.save_adapter("x", "x")
    with pytest.raises(Misfit, match="no token embedding, but a package of kind 'adapter'"):
        model.load_embeddings("x", "c")


def test_the_default_vocabulary_is_saved_and_loaded_under_a_name_but_never_trained(model):
    model.save_embeddings("d", "default")
    model.load_embeddings("d", "copy")
    assert torch.equal(model.word_vectors("copy"), model.word_vectors("default"))
    model.add_adapter("x")
    model.set_active_embeddings("default")
    with pytest.raises(ValueError, match="frozen: add_embeddings a copy"):
        model.train_adapter("x", train_embeddings=True)
    model.set_active_embeddings("copy")
    assert not model.embeddings["copy"].trains
    model.train_adapter("x", train_embeddings=True)
    assert model.embeddings["copy"].trains


def test_a_pickled_embedding_of_the_library_is_read_through_the_converter(model, folder):
    matrix = torch.nn.Parameter(torch.randn(12, 32, generator=torch.Generator().manual_seed(0)))
    (folder / "pickled").mkdir()
    torch.save(matrix, folder / "pickled" / "embedding.pt")
    own = tokenizer(["nuqneh"], folder / "pickled" / "tokenizer")
    loaded = model.load_embeddings("pickled", "k")
    assert torch.equal(model.word_vectors("k"), matrix.detach())
    assert loaded.get_vocab() == own.get_vocab()


def test_code_that_comes_with_a_tokenizer_never_runs(model, folder):
    own = tokenizer(["nuqneh"], folder / "own")
    model.add_embeddings("own", own)
    model.save_embeddings("saved", "own", own)
    place = folder / "saved" / "tokenizer"
    config = json.loads((place / "tokenizer_config.json").read_text())
    config |= {"auto_map": {"AutoTokenizer": ["theirs.Theirs", None]}, "tokenizer_class": "Theirs"}
    (place / "tokenizer_config.json").write_text(json.dumps(config))
    (place / "theirs.py").write_text(f"open({str(folder / 'ran')!r}, 'w')\nclass Theirs: pass\n")
    with pytest.raises(Misfit, match="code that comes with a tokenizer is never run"):
        model.load_embeddings("saved", "theirs")
    assert not (folder / "ran").exists()
    assert "theirs" not in model.embeddings


def test_a_language_head_starts_as_the_active_vocabulary(model, folder):
    own = tokenizer(["new", "film"], folder / "own")
    model.add_embeddings("own", own)
    model.add_masked_lm_head("mlm")
    outputs = model(**own("new film", return_tensors="pt"))
    assert outputs.logits.shape == (1, 4, len(own))
    assert torch.equal(model.heads["mlm"].tensors()["head/1/weight"].detach(), model.word_vectors("own"))


def test_a_package_to_publish_brings_the_tokenizer_along(model, folder):
    own = tokenizer(["new", "film"], folder / "own")
    model.add_embeddings("own", own)
    (folder / "own.safetensors").write_bytes(native.write(model.embedding_package("own")))
    loaded = model.load_embeddings("own.safetensors", "again")
    assert loaded("new film")["input_ids"] == own("new film")["input_ids"]
    assert torch.equal(model.word_vectors("again"), model.word_vectors("own"))


def test_a_tokenizer_of_a_package_knows_what_its_special_tokens_are_for(model, folder):
    own = tokenizer(["new", "film"], folder / "own")
    model.add_embeddings("own", own)
    (folder / "own.safetensors").write_bytes(native.write(model.embedding_package("own")))
    loaded = model.load_embeddings("own.safetensors", "again")
    assert (loaded.pad_token, loaded.mask_token, loaded.unk_token) == ("[PAD]", "[MASK]", "[UNK]")
    batch = loaded(["new film", "new"], padding=True, return_tensors="pt")
    assert torch.equal(batch["input_ids"], own(["new film", "new"], padding=True, return_tensors="pt")["input_ids"])


def test_a_matrix_that_is_saved_without_a_tokenizer_is_loaded_without_one(model, folder):
    own, small = tokenizer(["new", "film"], folder / "own"), tokenizer([], folder / "small")
    model.add_embeddings("own", own)
    model.add_embeddings("small", small)
    model.save_embeddings("saved", "own", own)
    model.save_embeddings("saved", "small")
    assert model.load_embeddings("saved", "again") is None
    model.save_embeddings("saved", "own", own.backend_tokenizer)
    assert [path.name for path in (folder / "saved" / "tokenizer").iterdir()] == ["tokenizer.json"]
    assert model.load_embeddings("saved", "once more").pad_token == "[PAD]"
