import numpy as np
import pytest
import torch

from adapters.backbone import Backbone
from adapters.batch.rows import Row
from adapters.formats import native
from adapters.methods.fold import expected, fold
from adapters.weights import alone
from loadtests.synthetic import CONFIGS, make_adapters, make_package
from tests.loadtests.conftest import TINY


def test_the_same_arguments_give_the_same_bytes(profile):
    first, again = make_adapters(profile, 6, seed=3), make_adapters(profile, 6, seed=3)
    assert [a.data for a in first] == [a.data for a in again]
    assert {a.digest for a in first}.isdisjoint(a.digest for a in make_adapters(profile, 6, seed=4))


def test_methods_take_turns_and_every_adapter_differs(profile):
    made = make_adapters(profile, 12, seed=0)
    assert [a.method for a in made[:5]] == list(CONFIGS)
    assert len({a.digest for a in made}) == 12
    assert len({label for a in made for label in a.labels}) == 36


def test_chosen_methods_are_the_only_ones(profile):
    assert {a.method for a in make_adapters(profile, 4, seed=0, methods=["lora"])} == {"lora"}
    with pytest.raises(KeyError):
        make_adapters(profile, 1, seed=0, methods=["magic"])


@pytest.mark.parametrize("method", CONFIGS)
def test_a_package_reads_back_and_fits_the_backbone(profile, method):
    (made,) = make_adapters(profile, 1, seed=1, methods=[method])
    package = native.read(made.data)
    assert native.digest(made.data) == made.digest
    assert {name: tuple(t.shape) for name, t in package.tensors.items()} == expected(package.manifest, profile)
    assert package.manifest.head.labels == made.labels


def test_every_adapter_changes_the_answer_and_all_answers_differ():
    backbone = Backbone.load(TINY)
    ids = np.array([2, 11, 12, 13, 14, 3])
    bare = backbone.run([Row((), None, None, ids)], ["hidden_state"])[0]
    answers = []
    for number, method in enumerate([*CONFIGS, *CONFIGS]):
        adapter = fold(make_package(backbone.profile, method, f"a{number}", 0), backbone.profile, torch.float32)
        held = alone(adapter)
        row = Row((held,), held, None, ids)
        answers.append(backbone.run([row], ["logits"])[0])
        hidden = backbone.run([row], ["hidden_state"])[0]
        assert (hidden[-1] - bare[-1]).abs().max() > 1e-3, method
    for i, one in enumerate(answers):
        assert torch.isfinite(one).all()
        assert all((one - other).abs().max() > 0.01 for other in answers[:i])
