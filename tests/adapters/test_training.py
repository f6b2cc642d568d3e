import json
import random

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from adapters import training
from adapters.batch.rows import Row
from adapters.errors import InvalidPackage, Misfit
from adapters.methods.fold import expected, fold
from adapters.training import Example, TrainingSettings, read_examples, train
from adapters.weights import alone
from tests.adapters import builders

WORDS = ["[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]", *(f"w{i}" for i in range(80))]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    made = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    return made


def texts(count: int) -> list[str]:
    generator = torch.Generator().manual_seed(0)
    return [" ".join(f"w{int(i)}" for i in torch.randint(0, 80, (5,), generator=generator)) for _ in range(count)]


def classification(count: int = 120) -> list[Example]:
    return [Example(t, "low" if int(t.split()[0][1:]) < 40 else "high") for t in texts(count)]


SETTINGS = TrainingSettings("bottleneck", "classification", epochs=12, learning_rate=5e-3)


@pytest.mark.parametrize("method", ["bottleneck", "lora", "prefix_tuning_flat", "prompt_tuning", "ia3", "loreft"])
def test_training_learns_and_the_backbones_bits_do_not_change(method, tokenizer):
    backbone = builders.backbone("bert")
    before = {name: tensor.clone() for name, tensor in backbone.model.state_dict().items()}
    report = train(backbone, tokenizer, classification(), TrainingSettings(method, "classification", 12, 2e-2))
    assert report.losses[-1] < 0.75 * report.losses[0]
    assert report.labels == ("high", "low")
    assert (report.trained_on, report.held_out) == (96, 24)
    assert all(torch.equal(before[name], tensor) for name, tensor in backbone.model.state_dict().items())
    shapes = expected(report.package.manifest, backbone.profile)
    assert {name: tuple(t.shape) for name, t in report.package.tensors.items()} == shapes


def test_what_is_trained_is_what_is_served(tokenizer):
    backbone = builders.backbone("bert")
    report = train(backbone, tokenizer, classification(), SETTINGS)
    resident = alone(fold(report.package, backbone.profile, torch.float32))
    held = classification()
    random.Random(SETTINGS.seed).shuffle(held)
    right = 0
    for example in held[: report.held_out]:
        row = Row((resident,), resident, None, np.array(tokenizer.encode(example.text).ids))
        right += report.labels[int(backbone.run([row], ["logits"])[0].argmax())] == example.label
    assert right / report.held_out == pytest.approx(report.score)


def test_held_out_examples_of_their_own_leave_all_others_to_learn_from(tokenizer):
    one, other = classification(40)[:24], classification(40)[24:]
    report = train(builders.backbone("bert"), tokenizer, one, TrainingSettings("lora", "classification", 1), other)
    assert (report.trained_on, report.held_out) == (24, 16)
    most = max(sum(example.label == label for example in other) for label in report.labels)
    assert report.constant == pytest.approx(most / 16)


def test_a_label_that_is_only_held_out_is_refused(tokenizer):
    with pytest.raises(InvalidPackage, match="never learned: middle"):
        train(builders.backbone("bert"), tokenizer, classification(20), SETTINGS, [Example("w1", "middle")])


def test_the_learning_rate_rises_stays_and_falls_to_almost_nothing():
    share = [training._slope(40)(step) for step in range(40)]
    assert share[:4] == pytest.approx([0.25, 0.5, 0.75, 1.0])
    assert share[4:21] == [1.0] * 17
    assert share[21:] == pytest.approx([(40 - step) / 20 for step in range(21, 40)])
    assert 0 < training._slope(1)(0) <= 1


def test_the_same_seed_gives_the_same_package(tokenizer):
    backbone = builders.backbone("bert")
    quick = TrainingSettings("lora", "classification", epochs=1, seed=3)
    one, other = (train(backbone, tokenizer, classification(40), quick).package for _ in range(2))
    assert all(torch.equal(one.tensors[name], other.tensors[name]) for name in one.tensors)


def test_tagging_labels_the_first_token_of_every_word_behind_a_prompt(tokenizer):
    examples = [Example(t, tuple("x" if int(w[1:]) % 2 else "o" for w in t.split())) for t in texts(60)]
    report = train(
        builders.backbone("bert"), tokenizer, examples, TrainingSettings("prompt_tuning", "tagging", 10, 2e-2)
    )
    assert report.package.manifest.head.pooling == "tokens"
    assert report.losses[-1] < report.losses[0]
    assert 0 <= report.score <= 1


@pytest.mark.parametrize(("task", "problem"), [("multilabel", "multi_label"), ("regression", "regression")])
def test_other_problems_have_their_own_loss_and_head(task, problem, tokenizer):
    label = {"multilabel": lambda t: ("a", "b") if "1" in t else ("a",), "regression": lambda t: float(len(t))}[task]
    examples = [Example(t, label(t)) for t in texts(40)]
    report = train(builders.backbone("bert"), tokenizer, examples, TrainingSettings("lora", task, 6, 1e-2))
    assert report.package.manifest.head.problem_type == problem
    assert report.losses[-1] < report.losses[0]


def test_examples_are_read_from_tsv_and_jsonl(tmp_path):
    (tmp_path / "a.tsv").write_text("good film\tpos\n\nbad film\tneg\n")
    assert read_examples(tmp_path / "a.tsv", "classification") == [
        Example("good film", "pos"),
        Example("bad film", "neg"),
    ]
    lines = [{"text": "a b", "label": ["O", "X"]}]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, lines)))
    assert read_examples(tmp_path / "a.jsonl", "tagging") == [Example("a b", ("O", "X"))]
    (tmp_path / "b.tsv").write_text("x\ta, b\n")
    assert read_examples(tmp_path / "b.tsv", "multilabel") == [Example("x", ("a", "b"))]
    (tmp_path / "c.tsv").write_text("x\t1.5\n")
    assert read_examples(tmp_path / "c.tsv", "regression") == [Example("x", 1.5)]


@pytest.mark.parametrize(
    ("content", "task", "reason"),
    [
        ("no tab here\n", "classification", ":1: expected text"),
        ("a b\tO\n", "tagging", "2 words, but 1 labels"),
        ("x\tmany\n", "regression", "not a number"),
        ("x\t\n", "classification", "no label"),
        ("\n", "classification", "no examples"),
    ],
)
def test_lines_that_are_no_examples_are_refused_with_their_number(tmp_path, content, task, reason):
    (tmp_path / "a.tsv").write_text(content)
    with pytest.raises(InvalidPackage, match=reason):
        read_examples(tmp_path / "a.tsv", task)


def test_wrong_settings_are_refused_before_any_work(tokenizer):
    backbone = builders.backbone("bert")
    with pytest.raises(InvalidPackage, match="task"):
        train(backbone, tokenizer, classification(10), TrainingSettings("lora", "poetry"))
    with pytest.raises(Misfit, match="magic"):
        train(backbone, tokenizer, classification(10), TrainingSettings("magic", "classification"))
    with pytest.raises(InvalidPackage, match="fewer than two"):
        train(backbone, tokenizer, [Example("w1", "a")] * 5, TrainingSettings("lora", "classification"))
