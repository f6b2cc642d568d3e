import importlib.util
import re
import string
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer

from adapters.backbone import Backbone
from adapters.batch.rows import Row
from adapters.embeddings import MATRIX, TOKENIZER, token_embedding
from adapters.formats import native
from adapters.formats.check import check
from adapters.methods.fold import fold
from adapters.passes import side_by_side
from adapters.training import read_examples
from serving.demo import find_languages, find_model

FOLDER = Path(__file__).resolve().parents[2] / "deploy" / "samples"
TASKS = ("sentiment", "topic")
DRIFT = 0.02  # sums in another order, on another processor, may turn a close call


@cache
def language():
    """The module, which lies in no package."""
    spec = importlib.util.spec_from_file_location("sample_language", FOLDER / "language.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@cache
def backbone() -> Backbone:
    return Backbone.load(find_model())


@cache
def plain() -> Tokenizer:
    made = Tokenizer.from_file(str(find_model() / "tokenizer.json"))
    made.no_padding()
    return made


@cache
def package(name: str):
    return native.read(FOLDER / "velm" / f"{name}.safetensors")


@cache
def vocabulary():
    return token_embedding(package("velm"), torch.float32)


def task(name: str):
    return native.read(FOLDER / f"{name}.safetensors")


def lines(path: str):
    return read_examples(FOLDER / path, "classification")


def stated(name: str) -> list[float]:
    """The figures of a task in the README's table of velm: the stack, and the task alone."""
    pattern = rf"^\| lang-velm \+ {name} ~ velm \|(?:[^|]*\|){{2}} ([0-9.]+) \| ([0-9.]+) \|"
    found = re.search(pattern, (FOLDER / "README.md").read_text(), re.MULTILINE)
    assert found is not None
    return [float(figure) for figure in found.groups()]


def accuracy(name: str, *, alone: bool) -> float:
    """On the held-out lines in velm, each row alone, along the path that serves them."""
    packages = [task(name)] if alone else [package("lang-velm"), task(name)]
    folded = [fold(held, backbone().profile, torch.float32) for held in packages]
    members = tuple(side_by_side(folded, backbone().device))
    embedding = None if alone else vocabulary()
    tokenizer = plain() if embedding is None else Tokenizer.from_str(embedding.tokenizer_json.decode())
    labels, right = packages[-1].manifest.head.labels, []
    for line in lines(f"velm/{name}.held-out.tsv"):
        row = Row(members, members[-1], embedding, np.array(tokenizer.encode(line.text).ids))
        right.append(labels[int(backbone().run([row], ["logits"])[0].argmax())] == line.label)
    return sum(right) / len(right)


def test_every_letter_stands_for_another_one_vowels_for_vowels_and_all_else_stays():
    spell = language().spell
    for letters in (string.ascii_lowercase, string.ascii_uppercase):
        spelled = spell(letters)
        assert sorted(spelled) == sorted(letters)
        assert all(one != other for one, other in zip(letters, spelled, strict=True))
    assert set(spell("aeiouy")) == set("aeiouy")
    assert spell("Tea").lower() == spell("tea") != spell("Tea")
    assert spell("3,5 % -- (\u00e9)!") == "3,5 % -- (\u00e9)!"


@pytest.mark.parametrize("name", TASKS)
def test_the_held_out_lines_are_those_of_the_plain_sample_respelled(name):
    own, meant = lines(f"velm/{name}.held-out.tsv"), lines(f"{name}.held-out.tsv")
    assert [(line.text, line.label) for line in own] == [(language().spell(line.text), line.label) for line in meant]


def test_no_held_out_line_is_learned_from():
    learned = {text.lower() for text in language().learned_texts(FOLDER)}
    assert len(learned) > 1000
    assert not learned & {line.text.lower() for name in TASKS for line in lines(f"{name}.held-out.tsv")}


def test_the_dictionary_is_of_whole_words_that_the_sentences_do_not_teach_already():
    words = language().dictionary(plain(), ["The cat saw the dog."])
    assert len(words) == language().WORDS - 1
    assert "the" not in words
    assert {"cat", "dog", "and"} <= set(words)
    assert all(word.isalpha() for word in words)


def test_its_tokenizer_is_that_of_the_learned_texts():
    sentences = language().learned_texts(FOLDER)
    made = language().learn_tokens(sentences, language().dictionary(plain(), sentences))
    assert made.to_str() == vocabulary().tokenizer_json.decode()
    assert made.encode("").tokens == ["[CLS]", "[SEP]"]


def test_the_packages_fit_the_model_name_their_vocabulary_and_are_small():
    for name in ("velm", "lang-velm"):
        check(package(name), backbone().profile)
    assert package("lang-velm").manifest.requires.embedding == "velm"
    assert [part.method for part in package("lang-velm").manifest.parts] == ["bottleneck", "invertible"]
    assert package("velm").manifest.embedding.tokenizer
    assert sum(path.stat().st_size for path in (FOLDER / "velm").iterdir()) < 3_000_000


@pytest.mark.parametrize("name", TASKS)
def test_the_stack_is_as_accurate_on_unseen_lines_as_the_readme_says_and_the_task_alone_is_lost(name):
    stack, alone = stated(name)
    assert accuracy(name, alone=False) == pytest.approx(stack, abs=DRIFT)
    assert accuracy(name, alone=True) == pytest.approx(alone, abs=DRIFT)
    assert stack > alone + 0.15


def test_the_demo_finds_the_language_and_all_its_lines():
    [found] = find_languages(FOLDER)
    assert (found.vocabulary.name, found.adapter.name) == ("velm", "lang-velm")
    assert {name: len(held) for name, held in found.lines.items()} == dict.fromkeys(TASKS, 100)


def test_a_lesson_trains_the_matrix_and_every_part_of_the_adapter_and_nothing_else(monkeypatch):
    sample = language()
    monkeypatch.setattr(sample, "EPOCHS", 6)
    tokenizer = Tokenizer.from_str(vocabulary().tokenizer_json.decode())
    learned = sample.Language.begin(backbone(), find_model(), tokenizer, plain())
    under = fold(task("sentiment"), backbone().profile, torch.float32)
    frozen = [*backbone().model.parameters(), under.flat]
    before = [tensor.detach().clone() for tensor in (*frozen, learned.matrix, *learned.tensors.values())]
    losses = list(
        sample.Lesson(learned, plain(), under).learn(["The soup was delicious.", "We left."], ["rain", "sun"])
    )
    after = [*frozen, learned.matrix, *learned.tensors.values()]
    same = [torch.equal(one, other) for one, other in zip(before, after, strict=True)]
    assert losses[-1] < 0.9 * losses[0]
    assert same == [True] * len(frozen) + [False] * (1 + len(learned.tensors))
    untouched = tokenizer.token_to_id("[MASK]")  # in none of the texts
    assert torch.equal(learned.matrix[untouched], before[len(frozen)][untouched])


def test_a_vocabulary_begins_with_the_backbones_vectors_of_the_tokens_that_both_know():
    tokenizer = Tokenizer.from_str(vocabulary().tokenizer_json.decode())
    begun = language().Language.begin(backbone(), find_model(), tokenizer, plain())
    words = backbone().model.get_input_embeddings().weight
    assert torch.equal(begun.matrix[tokenizer.token_to_id("[CLS]")], words[plain().token_to_id("[CLS]")])
    packages = begun.packages()
    assert packages["velm"].tensors[MATRIX].dtype is torch.float16
    assert packages["velm"].tensors[TOKENIZER].numpy().tobytes() == tokenizer.to_str().encode()


def test_a_words_state_is_the_mean_of_its_tokens_and_both_ends_are_words():
    encoding = plain().encode("unforgettably cat")
    pieces = encoding.word_ids.count(0)
    assert pieces > 1
    states = torch.arange(len(encoding.ids), dtype=torch.float32)[:, None, None].expand(-1, 2, 3)
    means = language()._words(states, encoding)
    assert means[:, 1, 2].tolist() == [0.0, (1 + pieces) / 2, pieces + 1.0, pieces + 2.0]
