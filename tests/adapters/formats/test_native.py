import contextlib
import json
import struct

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from adapters import manifest as manifests
from adapters.errors import InvalidPackage, UnsafeFile
from adapters.formats import native
from adapters.manifest import EmbeddingSpec, Manifest, PartSpec, Provenance
from adapters.requires import Requires
from adapters.weights import Package

REQUIRES = Requires("bert", 8, 2, 2)
MANIFEST = Manifest("adapter", REQUIRES, (PartSpec("lora", {"sites": {"0/attn_q": {"rank": 2}}}),))


def package(**tensors):
    held = {name.replace("__", "/"): tensor for name, tensor in tensors.items()}
    return Package(MANIFEST, held or {"0/attn_q/lora_A": torch.arange(16.0).view(2, 8)})


def craft(header, data=b"", metadata=None):
    """A file with any header at all."""
    if isinstance(header, dict):
        whole = {"__metadata__": metadata or {"format": "chorus/1", "manifest": manifests.to_json(MANIFEST)}} | header
        header = json.dumps(whole).encode()
    return struct.pack("<Q", len(header)) + header + data


def entry(shape=(2,), start=0, end=8, dtype="F32"):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [start, end]}


def test_what_is_written_reads_back_equal_in_every_dtype_even_unaligned():
    embedding = EmbeddingSpec(3, 5, True)
    tensors = {
        "embedding/matrix/weight": torch.randn(3, 5, dtype=torch.float16),
        "embedding/tokenizer/bytes": torch.tensor([7, 8, 9], dtype=torch.uint8),
        "head/0/weight": torch.randn(3, 5),
        "head/0/bias": torch.randn(3, dtype=torch.bfloat16),
    }
    manifest = Manifest("embedding", REQUIRES, embedding=embedding)
    back = native.read(native.write(Package(manifest, tensors)))
    assert back.manifest == manifest
    assert list(back.tensors) == sorted(tensors)
    for name, tensor in tensors.items():
        assert back.tensors[name].dtype == tensor.dtype
        assert torch.equal(back.tensors[name], tensor)


def test_equal_packages_are_equal_bytes_whatever_the_order_and_layout():
    a, b = torch.randn(2, 8), torch.randn(8, 2)
    one = package(**{"0__attn_q__lora_A": a, "0__attn_q__lora_B": b})
    two = package(**{"0__attn_q__lora_B": b.t().contiguous().t(), "0__attn_q__lora_A": a.clone().requires_grad_()})
    assert native.write(one) == native.write(two)
    assert native.digest(native.write(one)) == native.digest(native.write(two))


def test_digest_of_a_file_is_that_of_its_bytes(tmp_path):
    data = native.write(package())
    (tmp_path / "p").write_bytes(data)
    assert native.digest(tmp_path / "p") == native.digest(data)
    assert native.digest(data).startswith("sha256:")


def test_a_file_reads_as_its_bytes_do(tmp_path):
    (tmp_path / "p").write_bytes(native.write(package()))
    assert native.preparse(tmp_path / "p").tensors["0/attn_q/lora_A"].shape == (2, 8)
    assert torch.equal(native.read(tmp_path / "p").tensors["0/attn_q/lora_A"], torch.arange(16.0).view(2, 8))


def test_a_header_whose_length_looks_like_a_pickle_is_read():
    for filler in range(40):
        manifest = Manifest("head", REQUIRES, head=None, provenance=Provenance("x", "1", "y" * (8 * filler)))
        text = manifests.to_json(manifest)
        data = craft({}, metadata={"format": "chorus/1", "manifest": text.replace('"head":null', HEAD)})
        length = struct.unpack("<Q", data[:8])[0]
        pad = (0x80 - length) % 256
        header = data[8:] + b" " * pad
        padded = struct.pack("<Q", len(header)) + header
        assert padded[:1] == b"\x80"
        assert native.preparse(padded).manifest.kind == "head"


HEAD = (
    '"head":{"type":"tagging","layers":1,"activation":null,"bias":true,"pooling":"tokens",'
    '"labels":["O"],"problem_type":"token"}'
)


@pytest.mark.parametrize(
    ("header", "data", "message"),
    [
        ({"0/a/b": entry(), "0/a/c": entry(start=8, end=16)}, b"x" * 8, "torn"),
        ({"0/a/b": entry()}, b"x" * 9, "appended"),
        ({"0/a/b": entry(), "0/a/c": entry()}, b"x" * 8, "ends at 8"),
        ({"0/a/b": entry(start=4, end=12)}, b"x" * 12, "ends at 0"),
        ({"0/a/b": entry(end=9)}, b"x" * 9, "does not take"),
        ({"0/a/b": entry(shape=(0,), end=0)}, b"", "shape"),
        ({"0/a/b": entry(shape=())}, b"x" * 8, "shape"),
        ({"0/a/b": entry(shape=(1, 1, 1, 1, 2))}, b"x" * 8, "shape"),
        ({"0/a/b": entry(shape=(True, 2))}, b"x" * 8, "shape"),
        ({"0/a/b": entry(shape=(-1, -2))}, b"x" * 8, "shape"),
        ({"0/a/b": entry(shape=("2",))}, b"x" * 8, "shape"),
        ({"0/a/b": entry(dtype="F64", shape=(1,))}, b"x" * 8, "dtype"),
        ({"0/a/b": entry(dtype="I64", shape=(1,))}, b"x" * 8, "dtype"),
        ({"0/a/b": entry(dtype="U8", shape=(8,))}, b"x" * 8, "dtype"),
        ({"embedding/tokenizer/bytes": entry()}, b"x" * 8, "dtype"),
        ({"0/a/b": entry() | {"more": 1}}, b"x" * 8, "exactly"),
        ({"0/a/b": [1]}, b"x" * 8, "exactly"),
        ({"0/a/b": entry() | {"data_offsets": [0]}}, b"x" * 8, "data_offsets"),
        ({"0/a/b": entry() | {"data_offsets": [0, 8.0]}}, b"x" * 8, "data_offsets"),
        ({"0/a": entry()}, b"x" * 8, "layer/site/parameter"),
        ({"../a/b": entry()}, b"x" * 8, "layer/site/parameter"),
        ({"00/a/b": entry()}, b"x" * 8, "layer/site/parameter"),
        ({"0/a/b.": entry()}, b"x" * 8, "layer/site/parameter"),
        ({"0/a/b\n": entry()}, b"x" * 8, "layer/site/parameter"),
        (b"[]", b"", "JSON object"),
        (b"{", b"", "not JSON"),
        (b'{"__metadata__":{"format":"chorus/1","format":"chorus/1"}}', b"", "twice"),
        (b'{"0/a/b":' * 3000, b"", "JSON"),
        (b"{\xff}", b"", "not JSON"),
        (b'{"__metadata__":5}', b"", "format"),
        (b"{}", b"", "format"),
    ],
)
def test_a_broken_header_is_refused_with_its_fault(header, data, message):
    with pytest.raises(InvalidPackage, match=message):
        native.preparse(craft(header, data))


def test_duplicate_keys_that_safetensors_would_take_are_refused():
    one = json.dumps(entry())
    header = f'{{"__metadata__":{{}},"0/a/b":{one},"0/a/b":{one}}}'.encode()
    with pytest.raises(InvalidPackage, match="'0/a/b' twice"):
        native.preparse(craft(header, b"x" * 8))


@pytest.mark.parametrize(
    "metadata", [{"format": "pt"}, {"format": "chorus/1"}, {"format": "chorus/1", "manifest": "{}", "more": "x"}]
)
def test_metadata_of_another_format_is_refused(metadata):
    with pytest.raises(InvalidPackage, match="__metadata__"):
        native.preparse(craft({}, metadata=metadata))


def test_limits_hold_before_anything_else_is_looked_at(tmp_path):
    huge = tmp_path / "huge"
    huge.write_bytes(struct.pack("<Q", native.MAX_HEADER_BYTES + 1) + b"{" * 16)
    with pytest.raises(InvalidPackage, match="at most 1048576"):
        native.preparse(huge)
    many = {f"0/a/b{i}": entry(start=8 * i, end=8 * i + 8) for i in range(native.MAX_TENSORS + 1)}
    with pytest.raises(InvalidPackage, match="at most 4096"):
        native.preparse(craft(many, b"x" * 8 * len(many)))


@pytest.mark.parametrize("data", [b"# Chorus\n\nOne frozen backbone", b"hello world" * 10, b"\x00" * 100])
def test_any_other_file_is_told_to_be_none_and_not_to_have_a_giant_header(data):
    with pytest.raises(InvalidPackage, match="the file is no safetensors file"):
        native.preparse(data)


def test_a_zip_archive_is_not_called_a_pickle():
    with pytest.raises(UnsafeFile, match="is a zip archive, in which torch keeps pickles, which could run code"):
        native.preparse(b"PK\x03\x04" + b"0" * 100)
    with pytest.raises(UnsafeFile, match="the file is a pickle, which could run code"):
        native.preparse(b"\x80\x02" + b"0" * 100)


@pytest.mark.parametrize("data", [b"", b"x", b"\x00" * 8, struct.pack("<Q", 100) + b"{}"])
def test_a_stump_is_refused(data):
    with pytest.raises(InvalidPackage):
        native.preparse(data)


@pytest.mark.parametrize(
    "data", [b"PK\x03\x04" + b"\x00" * 40, b"\x80\x02}q\x00." + b"\x00" * 9, b"\x80\x04\x95\x0a" + b"\x00" * 9]
)
def test_a_pickle_is_refused_with_the_remedy(data):
    with pytest.raises(UnsafeFile, match="chorus convert"):
        native.read(data)


def test_a_tensor_of_another_dtype_can_not_be_written():
    with pytest.raises(InvalidPackage, match="float64"):
        native.write(package(**{"0__attn_q__lora_A": torch.zeros(2, dtype=torch.float64)}))


def test_every_truncation_is_refused():
    data = native.write(package())
    for end in range(0, len(data), 7):
        with pytest.raises(InvalidPackage):
            native.read(data[:end])


@settings(max_examples=200, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_a_damaged_file_reads_or_is_refused_and_nothing_else(data):
    raw = bytearray(native.write(package()))
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(InvalidPackage):
        native.read(bytes(raw))


class Compared(str):
    """A key that counts how often keys are compared."""

    __slots__ = ()
    count = 0

    def __eq__(self, other):
        Compared.count += 1
        return str.__eq__(self, other)

    __hash__ = str.__hash__


def test_a_duplicate_among_many_keys_is_found_in_one_pass(monkeypatch):
    names = [f"{i:05x}" for i in range(5000)]
    pairs = [(Compared(name), 0) for name in (*names, names[-1])]
    monkeypatch.setattr(native.json, "loads", lambda _, object_pairs_hook: object_pairs_hook(pairs))
    with pytest.raises(InvalidPackage, match="twice"):
        native.preparse(craft(b"{}"))
    assert 1 <= Compared.count < 5 * len(names)
