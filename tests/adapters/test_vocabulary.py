import pytest
import torch
from safetensors.torch import load_file, save_file

from adapters.architectures.profile import read_profile
from adapters.errors import Misfit, UnknownArchitecture
from adapters.vocabulary import backbone_matrix, new_matrix
from tests.adapters import builders

TOKENS = {"the": 0, "nuq": 1, "##s": 2, "qapla": 5}
KNOWN = {"##s": 4, "a": 0, "the": 2}
REFERENCE = torch.arange(15.0).reshape(5, 3)


def test_rows_of_shared_strings_are_copied_whatever_their_ids():
    matrix = new_matrix(TOKENS, 3, KNOWN, REFERENCE, seed=1)
    assert torch.equal(matrix[0], REFERENCE[2])
    assert torch.equal(matrix[2], REFERENCE[4])


def test_the_other_rows_are_those_of_the_draw_without_a_reference():
    alone, extended = new_matrix(TOKENS, 3, None, None, seed=1), new_matrix(TOKENS, 3, KNOWN, REFERENCE, seed=1)
    assert torch.equal(alone[[1, 3, 4, 5]], extended[[1, 3, 4, 5]])
    assert not torch.equal(alone[0], extended[0])


def test_there_is_a_row_for_every_id_also_where_ids_have_gaps():
    assert new_matrix(TOKENS, 3, None, None, seed=1).shape == (6, 3)
    assert new_matrix({"a": 0, "b": 1}, 3, None, None, seed=1).shape == (2, 3)


def test_a_seed_gives_one_matrix_and_another_seed_another():
    first = new_matrix(TOKENS, 3, None, None, seed=7)
    assert torch.equal(first, new_matrix(TOKENS, 3, None, None, seed=7))
    assert not torch.equal(first, new_matrix(TOKENS, 3, None, None, seed=8))


def test_the_draw_is_normal_with_the_deviation_of_the_families():
    drawn = new_matrix({str(n): n for n in range(2000)}, 64, None, None, seed=0)
    assert abs(float(drawn.mean())) < 1e-3
    assert float(drawn.std()) == pytest.approx(0.02, rel=0.01)


def test_no_shared_string_is_a_draw_and_half_precision_is_read():
    assert torch.equal(new_matrix({"x": 0}, 3, {"y": 0}, REFERENCE, 3), new_matrix({"x": 0}, 3, None, None, 3))
    half = new_matrix({"the": 0}, 3, KNOWN, REFERENCE.bfloat16(), 3)
    assert half.dtype is torch.float32
    assert torch.equal(half[0], REFERENCE[2])


@pytest.mark.parametrize(
    ("tokens", "matrix", "reason"),
    [
        (KNOWN, None, "both or neither"),
        (None, REFERENCE, "both or neither"),
        (KNOWN, torch.zeros(5, 4), "3 wide"),
        ({"the": 5}, REFERENCE, "only 5 rows"),
    ],
)
def test_a_reference_that_can_not_be_right_is_refused(tokens, matrix, reason):
    with pytest.raises(Misfit, match=reason):
        new_matrix(TOKENS, 3, tokens, matrix, seed=0)


@pytest.mark.parametrize("family", builders.FAMILIES)
def test_the_backbones_own_matrix_is_read_from_its_checkpoint(family):
    found = backbone_matrix(builders.folder(family), builders.profile(family).geometry)
    assert torch.equal(found, builders.backbone(family).model.get_input_embeddings().weight)


def test_a_checkpoint_of_a_model_with_a_head_has_the_same_matrix(tmp_path):
    folder = builders.folder("bert")
    tensors = load_file(folder / "model.safetensors")
    decoder = {"cls.predictions.decoder.weight": tensors["embeddings.word_embeddings.weight"] + 1}
    save_file({f"bert.{name}": tensor for name, tensor in tensors.items()} | decoder, tmp_path / "model.safetensors")
    found = backbone_matrix(tmp_path, read_profile(folder).geometry)
    assert torch.equal(found, tensors["embeddings.word_embeddings.weight"])


def test_a_checkpoint_without_word_vectors_is_refused(tmp_path):
    save_file({"embeddings.word_embeddings.weight": torch.zeros(3, 3)}, tmp_path / "model.safetensors")
    with pytest.raises(UnknownArchitecture, match="found: none"):
        backbone_matrix(tmp_path, builders.profile("bert").geometry)
