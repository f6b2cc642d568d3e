import struct

import numpy as np
import pytest

from adapters.formats import native
from loadtests.client.connection import Place
from loadtests.client.plan import TURN, Tenant
from loadtests.client.publisher import Publisher
from loadtests.scenarios.values import Publishing
from loadtests.served.hot import bias_offsets, make_hot, publishes
from loadtests.served.population import COMMON, Library
from loadtests.served.target import Target
from tests.loadtests.conftest import TINY

TEXTS = ("river market doctor",) * 256
TARGET = Target(Place("h", 1), (Tenant("default", ""),), 1e-4)


@pytest.fixture
def hot(profile, tmp_path):
    return make_hot(profile, Publishing(megabytes=0.2), 0, tmp_path)


def test_it_is_as_large_as_the_scenario_says(hot):
    assert hot.path.stat().st_size == pytest.approx(0.2e6, rel=0.1)


def test_offsets_are_those_of_the_heads_biases(hot):
    biases = native.read(hot.path).tensors["head/0/bias"]
    data = hot.path.read_bytes()
    found = [struct.unpack_from("<f", data, offset)[0] for offset in bias_offsets(hot.path)]
    assert found == [float(biases[0]), float(biases[1])]


def test_every_copy_is_another_package_whose_answer_is_known(hot, tmp_path):
    library = Library(TINY)
    (known,), _ = library.compute((hot,), TEXTS, lambda *_: None)
    plan = publishes(known, hot, TARGET, TEXTS[COMMON], (0.0, 1.0), tmp_path / "out", ask=True)
    publisher = Publisher(plan)
    digests = set()
    for number in (0, 1, TURN - 1, TURN, 3 * TURN + 7):
        path = tmp_path / f"{number}.safetensors"
        path.write_bytes(publisher.copy(number))
        digests.add(native.digest(path))
        copy = hot.__class__(0, hot.name, hot.method, native.digest(path), hot.labels, path, hot.texts)
        (answer,), _ = library.compute((copy,), TEXTS, lambda *_: None)
        moved = np.array(answer.logits[0]) - np.array(known.logits[0])
        assert np.allclose(moved[:2], plan.steps(number), atol=1e-5)
        assert np.allclose(moved[2:], 0)
    assert len(digests) == 5


def test_steps_of_all_copies_keep_apart(hot, tmp_path):
    known = Library(TINY).compute((hot,), TEXTS, lambda *_: None)[0][0]
    plan = publishes(known, hot, TARGET, "x", (), tmp_path / "out", ask=False)
    steps = [plan.steps(number) for number in range(500)]
    assert len(set(steps)) == 500
    assert plan.step > 2 * TARGET.tolerance
    assert (plan.tenant.name, plan.ask, plan.at) == ("default", False, ())
