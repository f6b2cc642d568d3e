"""Gradients of everything that trains, against central finite differences in float64."""

from functools import cache

import pytest
import torch

from adapters.embeddings import MATRIX
from adapters.manifest import EmbeddingSpec, HeadSpec, Manifest
from adapters.model import AdapterModel
from adapters.weights import Package
from tests.adapters import builders

STEP = 1e-5
HEADS = {
    **builders.HEADS,
    "question_answering": HeadSpec("question_answering", 2, "tanh", True, "tokens", ("start", "end"), "span"),
    "multiple_choice": HeadSpec("multiple_choice", 2, "tanh", True, "first_token", (), "choice", choices=2),
    "masked_lm": HeadSpec(
        "masked_lm", 2, "gelu", True, "tokens", (), "vocabulary", vocabulary=7, width=builders.HIDDEN, norm_eps=1e-5
    ),
    "dependency_parsing": HeadSpec("dependency_parsing", 1, None, True, "tokens", ("nsubj", "obj"), "tree"),
}


@cache
def model(family: str = "bert") -> AdapterModel:
    return AdapterModel.from_pretrained(builders.folder(family), dtype=torch.float64)


def batch() -> dict[str, torch.Tensor]:
    ids = torch.from_numpy(builders.ids(5, 18)).view(2, 9)
    mask = torch.ones_like(ids)
    mask[1, 6:] = 0
    return {"input_ids": ids, "attention_mask": mask}


def put(owner: AdapterModel, name: str, package: Package) -> None:
    shelf = {"adapter": owner.adapters, "head": owner.heads, "embedding": owner.embeddings}[package.manifest.kind]
    owner.keep(shelf, name, package, replace=True)


def hidden_score(owner: AdapterModel | None = None, **call) -> torch.Tensor:
    """A number that depends on every hidden state of the batch's own tokens."""
    states = (owner or model())(**batch(), **call).last_hidden_state
    weights = torch.randn(states.shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    return (states * weights).sum()


def agree(score, parameters: dict[str, torch.nn.Parameter]) -> None:
    """Autograd's slope of the score along a random direction of every parameter is that of finite differences."""
    generator = torch.Generator().manual_seed(11)
    slopes = torch.autograd.grad(score(), list(parameters.values()), allow_unused=True)
    moved = 0
    for (name, parameter), slope in zip(parameters.items(), slopes, strict=True):
        way = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
        at = parameter.detach().clone()
        ends = []
        for sign in (1, -1):
            with torch.no_grad():
                parameter.copy_(at + sign * STEP * way)
                ends.append(score())
        with torch.no_grad():
            parameter.copy_(at)
        measured = float((ends[0] - ends[1]) / (2 * STEP))
        said = 0.0 if slope is None else float((slope * way).sum())
        assert said == pytest.approx(measured, rel=1e-4, abs=1e-6), name
        moved += abs(measured) > 1e-6
    assert moved >= len(parameters) // 2


@pytest.mark.parametrize("part", list(builders.PARTS))
def test_every_method_has_the_gradient_of_finite_differences(part):
    family = builders.home(builders.PARTS[part])
    owner = model() if family == "bert" else model(family)
    put(owner, "a", builders.package(family, [builders.PARTS[part]], seed=1))
    agree(lambda: hidden_score(owner, adapter_names="a"), dict(owner.adapters["a"].named_parameters()))


def test_a_chain_has_gradients_in_both_of_its_adapters():
    for i, name in enumerate(("below", "above")):
        put(model(), name, builders.package("bert", [builders.PARTS["seq_bn"], builders.PARTS["lora_qv"]], seed=i))
    stacked = ["below", "above"]
    for name in stacked:
        agree(lambda: hidden_score(adapter_names=stacked), dict(model().adapters[name].named_parameters()))


@pytest.mark.parametrize("config", ["dynamic", "static"])
def test_a_fusion_has_gradients_and_so_have_the_adapters_under_it(config):
    for i, name in enumerate(("one", "two")):
        put(model(), name, builders.package("bert", [builders.PARTS["seq_bn"]], seed=i))
    fused = model().add_adapter_fusion(["one", "two"], config, overwrite_ok=True)
    with torch.no_grad():  # far from where a fusion starts, so that it prefers one to the other
        for i, parameter in enumerate(model().fusions[fused].parameters()):
            noise = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(i), dtype=torch.float64)
            parameter.add_(noise * 0.3)
    setup = {"fuse": ["one", "two"]}
    agree(lambda: hidden_score(adapter_names=setup), dict(model().fusions[fused].named_parameters()))
    agree(lambda: hidden_score(adapter_names=setup), dict(model().adapters["one"].named_parameters()))


GOALS = {
    "single_label": {"labels": torch.tensor([1, 0])},
    "multi_label": {"labels": torch.tensor([[1, 0], [1, 1]])},
    "regression": {"labels": torch.tensor([0.3, -2.0])},
    "token": {"labels": torch.tensor([[0, 1, 1, 0, -100, 1, 0, 0, 1], [1, 1, 0, 0, 1, 0, -100, -100, -100]])},
    "vocabulary": {"labels": torch.tensor([[3, -100, 6, 2, 5, 0, 1, 1, 4], [-100, 1, 2, 3, 4, 5, -100, -100, -100]])},
    "span": {"start_positions": torch.tensor([2, 1]), "end_positions": torch.tensor([4, 5])},
    "choice": {"labels": torch.tensor([1])},
    "tree": {
        "word_starts": torch.tensor([[1, 2, 4, 8], [1, 3, 5, 0]]),
        "labels_arcs": torch.tensor([[0, 1, 1], [2, 0, -1]]),
        "labels_rels": torch.tensor([[0, 1, 1], [1, 0, -1]]),
    },
}


@pytest.mark.parametrize("kind", list(HEADS))
def test_every_head_has_the_gradient_of_its_loss_and_hands_it_down(kind):
    spec = HEADS[kind]
    put(model(), "a", builders.package("bert", [builders.PARTS["seq_bn"]], seed=1))
    put(model(), "h", builders.package("bert", [], spec, seed=2))

    def score() -> torch.Tensor:
        return model()(**batch(), adapter_names="a", head="h", **GOALS[spec.problem_type]).loss

    agree(score, dict(model().heads["h"].named_parameters()))
    agree(score, dict(model().adapters["a"].named_parameters()))


def test_a_language_model_head_has_gradients_through_the_inverse_of_the_embeddings():
    put(model(), "lang", builders.package("bert", [builders.PARTS["invertible"]], seed=1))
    put(model(), "h", builders.package("bert", [], HEADS["masked_lm"], seed=2))

    def score() -> torch.Tensor:
        return model()(**batch(), adapter_names="lang", head="h", **GOALS["vocabulary"]).loss

    agree(score, dict(model().adapters["lang"].named_parameters()))


@pytest.mark.parametrize("part", ["seq_bn", "prompt"])
def test_a_matrix_of_word_vectors_has_gradients_at_the_tokens_that_occur(part):
    matrix = torch.randn(builders.VOCABULARY, builders.HIDDEN, generator=torch.Generator().manual_seed(1))
    spec = EmbeddingSpec(builders.VOCABULARY, builders.HIDDEN, tokenizer=False)
    put(model(), "v", Package(Manifest("embedding", builders.requires("bert"), embedding=spec), {MATRIX: matrix}))
    put(model(), "a", builders.package("bert", [builders.PARTS[part]], seed=1))
    model().set_active_embeddings("v")
    try:
        parameters = dict(model().embeddings["v"].named_parameters())
        agree(lambda: hidden_score(adapter_names="a"), parameters)
        (slope,) = torch.autograd.grad(hidden_score(adapter_names="a"), list(parameters.values()))
    finally:
        model().set_active_embeddings("default")
    inside = batch()
    seen = set(inside["input_ids"][inside["attention_mask"] == 1].tolist())
    assert {i for i, row in enumerate(slope) if bool(row.any())} == seen


def test_what_is_frozen_gets_no_gradient():
    put(model(), "a", builders.package("bert", [builders.PARTS["seq_bn"]], seed=1))
    put(model(), "b", builders.package("bert", [builders.PARTS["seq_bn"]], seed=2))
    model().freeze_adapter("a")
    torch.autograd.backward(hidden_score(adapter_names=["a", "b"]))
    assert all(parameter.grad is None for parameter in model().adapters["a"].parameters())
    assert all(parameter.grad is not None for parameter in model().adapters["b"].parameters())
