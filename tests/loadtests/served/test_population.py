import numpy as np
import pytest
import tokenizers

from adapters.backbone import Backbone
from adapters.batch.rows import Row
from adapters.formats import native
from adapters.methods.fold import fold
from adapters.weights import alone
from loadtests.scenarios.values import Adapters, Tenant
from loadtests.served.population import COMMON, LABELS, Library, TooAlike, make, nearest
from tests.loadtests.conftest import TINY

TENANTS = (Tenant("amber"), Tenant("birch"))
TEXTS = tuple(f"river market number {number % 7}" for number in range(256))


def made(profile, folder, **changes):
    wanted = Adapters(**({"count": 4, "texts": 2} | changes))
    return make(profile, wanted, TENANTS, 3, folder, lambda *_: None)


def test_every_tenant_has_adapters_of_its_own_methods_in_turn(profile, tmp_path):
    found = made(profile, tmp_path)
    assert [(one.tenant, one.method) for one in found[:5]] == [
        (0, "bottleneck"), (0, "lora"), (0, "bottleneck"), (0, "lora"), (1, "bottleneck"),
    ]  # fmt: skip
    assert len({one.digest for one in found}) == len({one.name for one in found}) == 8
    assert all(native.digest(one.path.read_bytes()) == one.digest for one in found)
    assert all(len(one.labels) == LABELS and len(one.texts) == 2 for one in found)


def test_the_same_arguments_give_the_same_bytes(profile, tmp_path):
    assert [a.digest for a in made(profile, tmp_path / "a")] == [b.digest for b in made(profile, tmp_path / "b")]


def test_ranks_take_turns(profile, tmp_path):
    found = made(profile, tmp_path, methods=("lora",), ranks=(2, 4))
    sizes = [one.path.stat().st_size for one in found[:4]]
    assert sizes[0] == sizes[2] < sizes[1] == sizes[3]


def test_answers_are_those_of_the_library_for_each_adapter_and_text(profile, tmp_path):
    library, found = Library(TINY), made(profile, tmp_path)
    known, common = library.compute(found, TEXTS, lambda *_: None)
    backbone, tokenizer = Backbone.load(TINY), tokenizers.Tokenizer.from_file(str(TINY / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    one, answers = found[5], known[5]
    held = alone(fold(native.read(one.path), profile, backbone.dtype, backbone.base_maps))
    for number, text in enumerate(one.texts):
        ids = np.array(tokenizer.encode(TEXTS[text]).ids)
        (logits,) = backbone.run([Row((held,), held, None, ids)], ["logits"])
        assert np.allclose(logits.numpy(), answers.logits[number], atol=1e-5)
    assert (answers.name, answers.digest, answers.tenant, answers.labels) == (one.name, one.digest, 1, one.labels)
    assert common.shape == (8, LABELS)
    assert len(TEXTS) > COMMON


def test_how_far_it_is_is_told(profile, tmp_path):
    steps = []
    Library(TINY).compute(made(profile, tmp_path), TEXTS, lambda done, total: steps.append((done, total)))
    assert steps[-1] == (8, 8)


def test_a_slot_is_as_large_as_the_weights_in_the_services_dtype(profile, tmp_path):
    library, found = Library(TINY), made(profile, tmp_path, methods=("lora",))
    whole, half = (library.slot_bytes(found, dtype) for dtype in ("float32", "bfloat16"))
    assert half < whole <= 2 * half
    assert whole == pytest.approx(found[0].path.stat().st_size, rel=0.5)


def test_adapters_that_answer_alike_are_refused():
    common = np.array([[0.0, 1.0], [0.5, 1.0], [0.0, 1.3]])
    assert nearest(common, 0.1) == pytest.approx(0.3)
    with pytest.raises(TooAlike, match="a mix-up would not show"):
        nearest(common, 0.2)
    assert nearest(common[:1], 0.1) == float("inf")
