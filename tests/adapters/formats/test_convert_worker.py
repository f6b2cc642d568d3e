import pytest
import torch
from safetensors.torch import load_file

from adapters.formats.convert_worker import convert_file

OWN = "bert.prefix_tuning.prefix_tunings.a.self_prefix.control_trans"
POOL = "bert.encoder.layer.0.attention.self.prefix_tuning.pool.prefix_tunings.a.self_prefix.control_trans"


def converted(tmp_path, value):
    torch.save(value, tmp_path / "in.bin")
    convert_file(tmp_path / "in.bin", tmp_path / "out.safetensors")
    return load_file(tmp_path / "out.safetensors")


def test_copies_of_a_prefix_in_the_pool_are_left_out(tmp_path):
    x = torch.randn(6)
    assert set(converted(tmp_path, {OWN: x, POOL: x})) == {OWN}
    bare = {key.removeprefix("bert."): x for key in (OWN, POOL)}
    assert set(converted(tmp_path, bare)) == {OWN.removeprefix("bert.")}


def test_copies_without_an_owner_are_kept_apart(tmp_path):
    x = torch.randn(6)
    other = POOL.replace("layer.0", "layer.1")
    assert set(converted(tmp_path, {POOL: x, other: x})) == {POOL, other}


def test_copies_that_differ_from_their_owner_are_refused(tmp_path):
    with pytest.raises(ValueError, match="differ"):
        converted(tmp_path, {OWN: torch.zeros(6), POOL: torch.ones(6)})


def test_a_copy_of_another_adapter_or_parameter_is_no_copy(tmp_path):
    x = torch.randn(6)
    assert len(converted(tmp_path, {OWN.replace(".a.", ".xa."): x, POOL: x})) == 2


def test_views_and_shared_memory_become_tensors_of_their_own(tmp_path):
    x = torch.arange(12.0).view(3, 4)
    found = converted(tmp_path, {"x": x, "t": x.t(), "row": x[1]})
    assert torch.equal(found["t"], x.t())
    assert torch.equal(found["row"], x[1])


def test_a_bare_tensor_is_an_embedding(tmp_path):
    assert set(converted(tmp_path, torch.nn.Parameter(torch.ones(2, 2)))) == {"embedding"}


@pytest.mark.parametrize(
    "value",
    [{"x": 1}, {"x": [torch.zeros(1)]}, [torch.zeros(1)], {1: torch.zeros(1)}, {"x": torch.zeros(2).to_sparse()}],
)
def test_anything_but_dense_tensors_by_name_is_refused(tmp_path, value):
    with pytest.raises((ValueError, TypeError)):
        converted(tmp_path, value)
    assert not (tmp_path / "out.safetensors").exists()
