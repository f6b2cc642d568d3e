import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from adapters.batch.rows import Row, image_ids
from adapters.errors import Misfit
from adapters.formats import native
from adapters.manifest import EmbeddingSpec, HeadSpec, Manifest, PartSpec
from adapters.methods.fold import fold
from adapters.weights import Package, alone
from serving.images.preprocessing import FILE, read_preprocessing
from serving.images.reference import drawn
from serving.registry import check_trial
from serving.registry.check_trial import Trials
from serving.registry.inspection import SAMPLE
from tests.adapters import builders
from tests.serving.samples import WORDS, tokenizer_json

TEXT = "i love it !"
IDS = np.asarray([WORDS.index(word) for word in ("[CLS]", *TEXT.split(), "[SEP]")])


@pytest.fixture(scope="module")
def trials(tmp_path_factory):
    folder = tmp_path_factory.mktemp("backbone")
    (folder / "tokenizer.json").write_bytes(tokenizer_json())
    return Trials(folder, builders.backbone("bert"))


def states_of(*members, insertion=0):
    row = Row(tuple(alone(member) for member in members), None, None, IDS, np.zeros_like(IDS))
    return builders.backbone("bert").run([row], ["hidden_state"])[0][insertion:]


@pytest.mark.parametrize(("name", "inserted"), [("lora_qv", 0), ("seq_bn", 0), ("prefix_flat", 0), ("prompt", 3)])
def test_the_change_is_how_far_the_states_of_the_text_move(trials, name, inserted):
    package = builders.package("bert", [builders.PARTS[name]])
    trial, why = trials.run(package, TEXT)
    bare, states = states_of(), states_of(builders.adapter("bert", [builders.PARTS[name]]), insertion=inserted)
    assert (why, trial.input, trial.tokens, trial.answer) == ("", TEXT, len(IDS), None)
    assert trial.change == pytest.approx(float((states - bare).norm() / bare.norm()), rel=1e-5)
    assert trial.change > 0.001
    assert trial.norm == pytest.approx(float(states.norm(dim=-1).mean()), rel=1e-5)


def test_an_adapter_that_changes_nothing_moves_nothing(trials):
    package = builders.package("bert", [builders.lora()])
    idle = {n: torch.zeros_like(t) if n.endswith("lora_B") else t for n, t in package.tensors.items()}
    assert idle.keys() == package.tensors.keys()
    trial, _ = trials.run(Package(package.manifest, idle), TEXT)
    assert trial.change == 0.0


@pytest.mark.parametrize("name", builders.HEADS)
def test_every_head_answers_beside_its_adapter(trials, name):
    head = builders.HEADS[name]
    trial, _ = trials.run(builders.package("bert", [builders.lora()], head), TEXT)
    assert trial.change > 0
    assert trial.answer.get("label", head.labels[0]) in head.labels


def test_a_head_alone_reads_the_bare_backbone(trials):
    trial, _ = trials.run(builders.package("bert", [], builders.HEADS["tagging"]), TEXT)
    assert trial.change is None
    assert trial.answer["word"] == "i"
    assert trial.answer["label"] in ("o", "x")


@pytest.mark.parametrize(
    ("kind", "labels", "problem", "answer"),
    [
        ("question_answering", ("start", "end"), "span", {"answer"}),
        ("multiple_choice", (), "choice", {"value"}),
        ("dependency_parsing", ("nsubj", "obj"), "tree", {"head", "relation"}),
        ("masked_lm", (), "vocabulary", {"word", "token_str"}),
    ],
)
def test_the_answers_of_other_tasks_have_their_own_words(trials, kind, labels, problem, answer):
    vocabulary = {"vocabulary": builders.VOCABULARY, "width": builders.HIDDEN} if kind == "masked_lm" else {}
    pooling = "first_token" if kind == "multiple_choice" else "tokens"
    head = HeadSpec(kind, 1, None, True, pooling, labels, problem, **vocabulary)
    trial, _ = trials.run(builders.package("bert", [builders.lora()], head), TEXT)
    assert trial.answer.keys() == answer
    json.dumps(trial.answer, allow_nan=False)


def test_a_vocabulary_is_tried_with_its_own_tokenizer(trials):
    words = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "nuq", "i", "love")
    package = builders.embedding_package("bert", rows=len(words))
    raw = torch.frombuffer(bytearray(tokenizer_json(words)), dtype=torch.uint8)
    spec = EmbeddingSpec(len(words), package.manifest.embedding.width, tokenizer=True)
    manifest = Manifest("embedding", package.manifest.requires, embedding=spec)
    trial, why = trials.run(Package(manifest, {**package.tensors, native.TOKENIZER: raw}), "nuq i love")
    assert (why, trial.tokens, trial.change, trial.answer) == ("", 5, None, None)


def test_what_can_not_run_by_itself_says_why(trials):
    fusion = Manifest("fusion", builders.requires("bert"), (PartSpec("fusion", {}),), children=("a", "b"))
    assert trials.run(Package(fusion, {}), TEXT) == (None, check_trial.FUSION)
    made = builders.package("bert", [builders.lora()])
    requires = replace(made.manifest.requires, embedding="klingon")
    foreign = replace(made.manifest, requires=requires)
    trial, why = trials.run(Package(foreign, made.tensors), TEXT)
    assert trial is None
    assert "'klingon'" in why


def test_an_output_that_is_not_finite_is_no_trial(trials):
    package = builders.package("bert", [builders.lora()])
    huge = {name: tensor * 1e19 for name, tensor in package.tensors.items()}
    assert trials.run(Package(package.manifest, huge), TEXT) == (None, check_trial.NOT_FINITE)


def test_a_text_that_is_too_long_is_refused_with_its_length(trials):
    with pytest.raises(Misfit, match=r"has 52 tokens; this backbone takes 1 to 40"):
        trials.run(builders.package("bert", [builders.lora()]), "i " * 50)


def test_loading_reads_the_folder(tmp_path):
    loaded = Trials.load(builders.folder("bert"))
    assert loaded._backbone.profile == builders.profile("bert")


@pytest.fixture(scope="module")
def of_images(tmp_path_factory):
    folder = builders.variant("vit", num_channels=3)
    (folder / FILE).write_text(json.dumps({"size": {"height": 8, "width": 12}}))
    return Trials.load(folder)


@pytest.mark.parametrize(
    "head", [None, HeadSpec("classification", 1, None, True, "first_token", ("a", "b"), "single_label")]
)
def test_a_backbone_of_images_tries_on_a_drawn_one(of_images, head):
    backbone = of_images._backbone
    package = builders.package("vit", [builders.lora()], head)
    trial, why = of_images.run(package, SAMPLE)
    member = alone(fold(package, backbone.profile, torch.float32))
    pixels = read_preprocessing(of_images._folder, backbone.profile.geometry).numbers(drawn(8, 12))
    rows = [
        Row(members, None, None, image_ids(backbone.profile.geometry), pixels=pixels) for members in ((member,), ())
    ]
    states, bare = backbone.run(rows, ["hidden_state"] * 2)
    assert (why, trial.input, trial.tokens) == ("", "a drawn image", 7)
    assert trial.change == pytest.approx(float((states - bare).norm() / bare.norm()), rel=1e-5)
    assert trial.change > 0.001
    assert (trial.answer is None) if head is None else trial.answer["label"] in ("a", "b")


def test_a_text_says_nothing_to_a_backbone_of_images(of_images):
    with pytest.raises(Misfit, match="tried on a drawn one"):
        of_images.run(builders.package("vit", [builders.lora()]), "a text of my own")
