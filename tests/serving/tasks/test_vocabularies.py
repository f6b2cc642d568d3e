import dataclasses

import numpy as np
import pytest

from adapters.manifest import EmbeddingSpec
from adapters.refs import AdapterRef
from serving.errors import DependencyFailed
from serving.tasks.tokenization import Text
from serving.tasks.vocabularies import TENSOR, Vocabularies, read_bytes
from tests.serving.samples import PROFILE, WORDS, adapter_manifest, package_bytes, tokenizer_json

OTHER = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "love", "i")
SPEC = EmbeddingSpec(len(OTHER), 8, tokenizer=True)


def ref(name: str, tenant: str = "default") -> AdapterRef:
    return AdapterRef(tenant, name, 1, "sha256:" + name[0] * 64)


@pytest.fixture
def package(tmp_path):
    tensors = {
        "embedding/matrix/weight": np.ones((len(OTHER), 8), np.float32),
        TENSOR: np.frombuffer(tokenizer_json(OTHER), np.uint8),
    }
    path = tmp_path / "package"
    path.write_bytes(package_bytes(adapter_manifest(kind="embedding"), tensors))
    return path


@pytest.fixture
def vocabularies():
    return Vocabularies(tokenizer_json(), PROFILE.geometry, capacity=2)


def test_a_package_brings_its_own_ids(vocabularies, package):
    own = vocabularies.read(ref("a"), SPEC, package)
    assert own.encode([Text("i love")])[0].input_ids.tolist() == [2, 5, 4, 3]
    assert vocabularies.default.encode([Text("i love")])[0].input_ids.tolist() == [2, 4, 5, 3]


def test_a_package_without_a_tokenizer_uses_the_backbones_within_its_own_rows(vocabularies, tmp_path):
    own = vocabularies.read(ref("a"), dataclasses.replace(SPEC, tokenizer=False), tmp_path / "not read")
    (encoded,) = own.encode([Text("hate")])
    assert encoded.input_ids.tolist() == [2, WORDS.index("hate"), 3]
    assert own.fault(encoded) is not None  # the matrix has six rows


def test_the_least_recently_used_makes_room(vocabularies, package):
    for name in ("a", "b"):
        vocabularies.read(ref(name), SPEC, package)
    assert vocabularies.held(ref("a")) is not None
    vocabularies.read(ref("c"), SPEC, package)
    vocabularies.check()
    assert vocabularies.held(ref("b")) is None
    assert vocabularies.held(ref("a")) is not None


def test_one_tenants_bytes_do_not_answer_for_another(vocabularies, package):
    vocabularies.read(ref("a"), SPEC, package)
    assert vocabularies.held(ref("a", tenant="other")) is None


def test_torn_or_alien_files_are_a_failed_dependency(tmp_path, package):
    whole = package.read_bytes()
    path = tmp_path / "bad"
    floats = package_bytes(adapter_manifest(kind="embedding"), {TENSOR: np.ones(3, np.float32)})
    for data in (b"", whole[:100], whole[:-1], b"\xff" * 64, package_bytes(adapter_manifest()), floats):
        path.write_bytes(data)
        with pytest.raises(DependencyFailed) as caught:
            read_bytes(path, TENSOR)
        assert caught.value.code == "bad_tokenizer"
    with pytest.raises(DependencyFailed):
        read_bytes(tmp_path / "absent", TENSOR)
