import re
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer

from adapters.backbone import Backbone
from adapters.batch.rows import Row
from adapters.formats import native
from adapters.formats.check import check
from adapters.methods.fold import fold
from adapters.training import read_examples
from adapters.weights import alone
from serving.demo import find_model, find_samples

FOLDER = Path(__file__).resolve().parents[2] / "deploy" / "samples"
METHODS = {"sentiment": "bottleneck", "tagger": "prefix_tuning", "topic": "lora"}
LINES = {"sentiment": "tsv", "tagger": "jsonl", "topic": "tsv"}
DRIFT = 0.02  # sums in another order, on another processor, may turn a close call


@cache
def backbone() -> Backbone:
    return Backbone.load(find_model())


@cache
def tokenizer() -> Tokenizer:
    made = Tokenizer.from_file(str(find_model() / "tokenizer.json"))
    made.no_padding()
    return made


def examples(name, kind=""):
    task = "tagging" if name == "tagger" else "classification"
    return read_examples(FOLDER / f"{name}{kind}.{LINES[name]}", task)


def stated(name: str) -> float:
    """The accuracy in the table of the README."""
    found = re.search(rf"^\| {name} \|(?:[^|]*\|){{4}} ([0-9.]+) \|", (FOLDER / "README.md").read_text(), re.MULTILINE)
    assert found is not None
    return float(found[1])


def rights(name: str) -> list[bool]:
    """Held-out answers, each row alone, along the path that serves them: one per text, or one per word."""
    package = native.read(FOLDER / f"{name}.safetensors")
    labels, resident = package.manifest.head.labels, alone(fold(package, backbone().profile, torch.float32))
    right = []
    for example in examples(name, ".held-out"):
        encoding = tokenizer().encode(example.text)
        row = Row((resident,), resident, None, np.array(encoding.ids))
        best = backbone().run([row], ["logits"])[0].argmax(-1)
        if name != "tagger":
            right.append(labels[int(best)] == example.label)
            continue
        firsts = {encoding.char_to_token(found.start()) for found in re.finditer(r"\S+", example.text)}
        found = [labels[int(best[token])] for token in sorted(firsts)]
        right += [one == other for one, other in zip(found, example.label, strict=True)]
    return right


def test_there_is_a_package_for_each_method_shown_and_each_can_be_made_again():
    assert {sample.name for sample in find_samples(FOLDER)} == set(METHODS)
    make = (FOLDER / "make").read_text()
    assert all(f"train {name} {LINES[name]} {method} " in make for name, method in METHODS.items())


@pytest.mark.parametrize("name", METHODS)
def test_a_package_is_small_and_fits_the_model(name):
    path = FOLDER / f"{name}.safetensors"
    assert path.stat().st_size < 1_000_000
    package = native.read(path)
    check(package, backbone().profile)
    assert package.manifest.method == METHODS[name]


@pytest.mark.parametrize("name", METHODS)
def test_a_package_is_as_accurate_on_unseen_sentences_as_the_readme_says(name):
    right = rights(name)
    assert sum(right) / len(right) == pytest.approx(stated(name), abs=DRIFT)


@pytest.mark.parametrize("name", METHODS)
def test_no_held_out_sentence_is_learned_from_and_no_sentence_comes_twice(name):
    learned, held_out = ([example.text.lower() for example in examples(name, kind)] for kind in ("", ".held-out"))
    assert not set(learned) & set(held_out)
    assert len(held_out) >= 100
    if name != "tagger":  # its frames are filled at random
        assert len(set(learned)) == len(learned)


def test_the_taggers_held_out_names_are_never_learned():
    def names(kind):
        lines = examples("tagger", kind)
        words = [(w, t) for line in lines for w, t in zip(line.text.split(), line.label, strict=True)]
        return {word for word, tag in words if tag in ("PER", "LOC", "ORG")}

    assert len(names(".held-out")) > 40
    assert names("") & names(".held-out") == set()
