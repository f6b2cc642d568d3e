import pytest
import torch

from adapters.errors import InvalidPackage, UnsafeFile
from adapters.formats import files


def test_tensors_round_trip_even_when_they_share_memory(tmp_path):
    x = torch.randn(4, 4)
    files.write_tensors(tmp_path / "adapter.safetensors", {"x": x, "row": x[1], "t": x.t()})
    back = files.read_tensors(tmp_path, "adapter.safetensors")
    assert torch.equal(back["t"], x.t())
    assert torch.equal(back["row"], x[1])


def test_a_pickle_beside_nothing_is_refused_with_the_remedy(tmp_path):
    (tmp_path / "pytorch_adapter.bin").write_bytes(b"PK\x03\x04")
    assert files.holds(tmp_path, "adapter.safetensors")
    with pytest.raises(UnsafeFile, match="chorus convert"):
        files.read_tensors(tmp_path, "adapter.safetensors")


def test_a_pickle_under_a_safe_name_is_refused(tmp_path):
    torch.save({"x": torch.zeros(1)}, tmp_path / "adapter.safetensors")
    with pytest.raises(UnsafeFile, match=r"adapter.safetensors"):
        files.read_tensors(tmp_path, "adapter.safetensors")


def test_missing_and_torn_weights_are_named(tmp_path):
    with pytest.raises(InvalidPackage, match=r"holds no adapter.safetensors"):
        files.read_tensors(tmp_path, "adapter.safetensors")
    (tmp_path / "adapter.safetensors").write_bytes(b"\x10" + b"\x00" * 7 + b"{}")
    with pytest.raises(InvalidPackage, match="no readable safetensors"):
        files.read_tensors(tmp_path, "adapter.safetensors")


@pytest.mark.parametrize("text", ["", "[1]", "{", '{"a": NaN}', '{"a": Infinity}', "\xff"])
def test_json_that_is_no_object_is_refused(tmp_path, text):
    (tmp_path / "c.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(InvalidPackage, match=r"c.json"):
        files.read_json(tmp_path / "c.json")


def test_absent_json_is_named(tmp_path):
    with pytest.raises(InvalidPackage, match=r"holds no c.json"):
        files.read_json(tmp_path / "c.json")


def test_json_round_trips(tmp_path):
    files.write_json(tmp_path / "c.json", {"b": [1, None], "a": "é"})
    assert files.read_json(tmp_path / "c.json") == {"a": "é", "b": [1, None]}


def test_every_tensor_that_is_not_finite_is_named(tmp_path):
    good, bad = torch.ones(2), torch.tensor([1.0, float("inf")])
    files.write_tensors(tmp_path / "adapter.safetensors", {"a": good, "b": bad})
    files.write_tensors(tmp_path / "model_head.safetensors", {"c": bad})
    assert files.not_finite(tmp_path) == ["b holds NaN or infinity", "c holds NaN or infinity"]


def test_what_is_written_takes_the_place_of_its_own_pickle_alone(tmp_path):
    for name in files.PICKLED.values():
        (tmp_path / name).write_bytes(b"old")
    files.write_tensors(tmp_path / "adapter.safetensors", {"x": torch.ones(1)})
    assert not (tmp_path / "pytorch_adapter.bin").exists()
    assert len(list(tmp_path.iterdir())) == len(files.PICKLED)
    files.write_tensors(tmp_path / "model_head.safetensors", {"x": torch.ones(1)})
    (tmp_path / "pytorch_model_head.bin").write_bytes(b"again")
    files.remove_tensors(tmp_path, "model_head.safetensors")
    files.remove_tensors(tmp_path, "model_head.safetensors")  # what is not there needs no removing
    assert not files.holds(tmp_path, "model_head.safetensors")
    assert (tmp_path / "adapter.safetensors").is_file()


def test_numbers_that_overflow_are_refused_by_their_place(tmp_path):
    (tmp_path / "c.json").write_text('{"config": {"alpha": 1e999}}')
    with pytest.raises(InvalidPackage, match=r"c\.json: config\.alpha is too large a number"):
        files.read_json(tmp_path / "c.json")


def test_a_configuration_is_no_larger_than_one_can_be(tmp_path):
    (tmp_path / "c.json").write_bytes(b"{" + b" " * (files.MAX_JSON_BYTES - 2) + b"}")
    assert files.read_json(tmp_path / "c.json") == {}
    (tmp_path / "c.json").write_bytes(b"{" + b" " * (files.MAX_JSON_BYTES - 1) + b"}")
    with pytest.raises(InvalidPackage, match=r"c\.json has more than"):
        files.read_json(tmp_path / "c.json")


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2, torch.complex64])
def test_numbers_that_mean_nothing_alone_are_refused_by_name(tmp_path, dtype):
    held = {
        "base_model.a.lora_A": torch.zeros(2, 2).to(dtype),
        "b": torch.zeros(2).half(),
        "c": torch.zeros(2).bfloat16(),
    }
    files.write_tensors(tmp_path / "adapter.safetensors", held)
    with pytest.raises(
        InvalidPackage, match=rf"adapter\.safetensors: base_model\.a\.lora_A is stored as {dtype}: save"
    ):
        files.read_tensors(tmp_path, "adapter.safetensors")
    files.write_tensors(tmp_path / "adapter.safetensors", {**held, "base_model.a.lora_A": torch.tensor([True, False])})
    assert len(files.read_tensors(tmp_path, "adapter.safetensors")) == 3


def test_a_tensor_s_name_is_no_longer_than_a_path(tmp_path):
    files.write_tensors(tmp_path / "adapter.safetensors", {"a" * files.MAX_NAME: torch.zeros(1)})
    assert files.read_tensors(tmp_path, "adapter.safetensors")
    files.write_tensors(tmp_path / "adapter.safetensors", {"a." * files.MAX_NAME: torch.zeros(1)})
    with pytest.raises(InvalidPackage, match=r"has 2000 characters; at most 1000"):
        files.read_tensors(tmp_path, "adapter.safetensors")
