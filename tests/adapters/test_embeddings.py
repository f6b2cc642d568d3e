import numpy as np
import pytest
import torch

from adapters.embeddings import look_up, token_embedding
from adapters.errors import InvalidPackage, InvalidRow
from tests.adapters import builders
from tests.adapters.builders import PARTS


def test_a_package_becomes_a_matrix_and_its_tokenizer():
    package = builders.embedding_package("bert", rows=12, tokenizer=b'{"version": "1.0"}')
    vocabulary = token_embedding(package, torch.float32)
    assert torch.equal(vocabulary.matrix, package.tensors["embedding/matrix/weight"])
    assert vocabulary.tokenizer_json == b'{"version": "1.0"}'
    assert vocabulary.nbytes == 12 * builders.HIDDEN * 4 + 18
    assert vocabulary.flat is None


def test_a_vocabulary_may_come_without_a_tokenizer():
    assert token_embedding(builders.embedding_package("bert"), torch.float32).tokenizer_json is None


def test_another_kind_of_package_is_refused():
    with pytest.raises(InvalidPackage, match="matrix"):
        token_embedding(builders.package("bert", [PARTS["lora_qv"]]), torch.float32)


def test_rows_are_looked_up_one_after_another():
    matrix = torch.arange(10.0)[:, None]
    assert look_up(matrix, [np.array([3, 1]), np.array([9])])[:, 0].tolist() == [3, 1, 9]


@pytest.mark.parametrize("bad", [-1, 10])
def test_ids_outside_of_the_matrix_are_refused(bad):
    with pytest.raises(InvalidRow, match="vocabulary of 10"):
        look_up(torch.zeros(10, 2), [np.array([0, bad])])
