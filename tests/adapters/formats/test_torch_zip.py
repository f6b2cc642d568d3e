import io
import os
import pickle
import zipfile

import pytest
import torch

from adapters.formats import torch_zip
from adapters.formats.convert_worker import convert_file
from adapters.formats.torch_zip import NotPlain


class Payload:
    def __reduce__(self):
        return (os.system, ("true",))


def described(path):
    with torch_zip.opened(path) as archive:
        return torch_zip.describe(archive)


def content(path):
    """Name -> (dtype, shape, bytes)."""
    with torch_zip.opened(path) as archive:
        found = {}
        for name, tensor in torch_zip.describe(archive).items():
            target = io.BytesIO()
            torch_zip.copy(archive, tensor, target)
            found[name] = (tensor.dtype, tensor.shape, target.getvalue())
        return found


def rewritten(source, target, change, compression=zipfile.ZIP_STORED):
    """The archive again, with what `change(name, data)` returns for every entry (None leaves it out)."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w", compression) as new:
        for name in old.namelist():
            data = change(name, old.read(name))
            if data is not None:
                new.writestr(name, data)
    return target


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "a.bin"
    torch.save({"x": torch.arange(6.0).view(2, 3), "y": torch.ones(4)}, path)
    return path


DTYPES = [
    torch.float32,
    torch.float16,
    torch.bfloat16,
    torch.float64,
    torch.int64,
    torch.int32,
    torch.uint8,
    torch.bool,
]


@pytest.mark.parametrize("dtype", DTYPES)
def test_tensors_are_read_byte_for_byte(dtype, tmp_path):
    x = torch.tensor([[0, 1, 2], [3, 4, 5]]).to(dtype)
    torch.save({"x": x, "scalar": x[1, 2], "none": x[:0]}, tmp_path / "a")
    found = content(tmp_path / "a")
    code, shape, data = found["x"]
    assert (torch.empty(0, dtype=dtype).element_size() * 6, shape) == (len(data), (2, 3))
    assert torch.equal(torch.frombuffer(bytearray(data), dtype=dtype).view(2, 3), x)
    assert found["scalar"][1:] == ((), data[-len(data) // 6 :])
    assert found["none"] == (code, (0, 3), b"")


def test_views_of_one_storage_are_tensors_of_their_own(tmp_path):
    x = torch.arange(12.0)
    torch.save({"whole": x, "half": x[6:], "row": x.view(3, 4)[1:2]}, tmp_path / "a")
    found = content(tmp_path / "a")
    assert found["half"][2] == found["whole"][2][24:]
    assert found["row"][1:] == ((1, 4), found["whole"][2][16:32])


def test_a_parameter_alone_is_an_embedding(tmp_path):
    torch.save(torch.nn.Parameter(torch.ones(2, 2)), tmp_path / "a")
    assert described(tmp_path / "a")["embedding"].shape == (2, 2)


def test_hundreds_of_tensors_take_the_long_operations(tmp_path):
    held = {f"encoder.layer.{i}.weight": torch.full((2,), float(i)) for i in range(400)}
    torch.save(held, tmp_path / "a")
    found = content(tmp_path / "a")
    assert list(found) == list(held)
    assert found["encoder.layer.399.weight"][2] == torch.full((2,), 399.0).numpy().tobytes()


@pytest.mark.parametrize(
    "value",
    [
        {"x": Payload()},
        {"x": os.system},
        {"x": torch.zeros(2, 3).t()},
        {"x": torch.zeros(1).expand(3)},
        {"x": torch.zeros(2).to_sparse()},
        {"x": torch.zeros(2, dtype=torch.complex64)},
        {"x": torch.zeros(2, dtype=torch.complex64).conj()},
        {"x": 1},
        {"x": [torch.zeros(1)]},
        {1: torch.zeros(1)},
        {"__metadata__": torch.zeros(1)},
        {"x": {"y": torch.zeros(1)}},
        [torch.zeros(1)],
        "x",
        None,
    ],
)
def test_everything_else_is_left_to_torch(value, tmp_path):
    torch.save(value, tmp_path / "a")
    with pytest.raises(NotPlain):
        described(tmp_path / "a")


def test_files_that_are_no_such_archive_are_left_to_torch(tmp_path, saved):
    (tmp_path / "pickle").write_bytes(pickle.dumps({"x": 1}))
    torch.save({"x": torch.zeros(1)}, tmp_path / "legacy", _use_new_zipfile_serialization=False)
    (tmp_path / "torn").write_bytes(saved.read_bytes()[:-30])
    with zipfile.ZipFile(tmp_path / "other", "w") as archive:
        archive.writestr("a/data.txt", "x")
    for name in ("pickle", "legacy", "torn", "other"):
        with pytest.raises(NotPlain):
            described(tmp_path / name)


def test_archives_that_lie_are_left_to_torch(tmp_path, saved):
    def changed(end, data):
        return lambda name, old: data if name.endswith(end) else old

    for change in (
        changed("data/0", None),
        changed("data/0", b"1234"),
        changed("data/0", b"x" * 4096),
        changed("byteorder", b"big"),
        changed("data.pkl", b""),
        changed("data.pkl", b"\x80\x02}."[:-1]),
    ):
        with pytest.raises(NotPlain):
            described(rewritten(saved, tmp_path / "b", change))
    with pytest.raises(NotPlain):
        described(rewritten(saved, tmp_path / "b", lambda _, data: data, zipfile.ZIP_DEFLATED))


def test_bytes_that_were_changed_are_noticed(tmp_path, saved):
    data = bytearray(saved.read_bytes())
    at = data.find(torch.ones(4).numpy().tobytes())
    data[at] ^= 1
    saved.write_bytes(data)
    with pytest.raises(NotPlain):
        content(saved)


HEAD = b"\x80\x02"
STORE = b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x06tQ"


def tensor(storage=STORE, offset=b"K\x00", shape=b"K\x02K\x03\x86", stride=b"K\x03K\x01\x86"):
    hooks = b"ccollections\nOrderedDict\n)R"
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + offset + shape + stride + b"\x89" + hooks + b"tR"


@pytest.mark.parametrize(
    ("program", "plain"),
    [
        (b"}X\x01\x00\x00\x00x" + tensor() + b"s.", True),
        (b"}X\x01\x00\x00\x00x" + tensor(offset=b"K\x01") + b"s.", False),
        (b"}X\x01\x00\x00\x00x" + tensor(offset=b"J\xff\xff\xff\xff") + b"s.", False),
        (b"}X\x01\x00\x00\x00x" + tensor(shape=b"K\x02\x85") + b"s.", False),
        (b"}X\x01\x00\x00\x00x" + tensor(storage=b"K\x00") + b"s.", False),
        (b"}X\x01\x00\x00\x00x" + tensor(storage=STORE.replace(b"\x000", b"\x00/")) + b"s.", False),
        (b"}X\x01\x00\x00\x00x" + tensor(storage=STORE.replace(b"FloatStorage", b"load")) + b"s.", False),
        (b"}X\x01\x00\x00\x00x" + tensor() + b"sX\x01\x00\x00\x00x" + tensor() + b"s.", False),
        (tensor() + b"X\x01\x00\x00\x00xK\x00s.", False),
        (b"}cposix\nsystem\nX\x01\x00\x00\x00x\x85Rs.", False),
        (b"}cbuiltins\neval\nX\x011\x00\x00\x85R.", False),
        (b"ccollections\nOrderedDict\n}X\x04\x00\x00\x00nameK\x01sb.", False),
        (b"}(ios\nsystem\n.", False),
        (b"R.", False),
        (b"t.", False),
        (b"s.", False),
        (b"h\x05.", False),
        (b"\x85.", False),
        (b"Q.", False),
        (b"}}.", False),
        (b"}", False),
    ],
)
def test_programs_other_than_tables_of_tensors_go_nowhere(program, plain, tmp_path, saved):
    with zipfile.ZipFile(tmp_path / "a", "w") as archive:
        archive.writestr("r/data.pkl", HEAD + program)
        archive.writestr("r/data/0", bytes(24))
    if plain:
        assert described(tmp_path / "a")["x"].shape == (2, 3)
    else:
        with pytest.raises(NotPlain):
            described(tmp_path / "a")


def test_equal_tensors_are_equal_byte_for_byte(tmp_path):
    torch.save({"a": torch.ones(3), "b": torch.ones(3), "c": torch.zeros(3), "d": torch.ones(3, 1)}, tmp_path / "a")
    with torch_zip.opened(tmp_path / "a") as archive:
        held = torch_zip.describe(archive)
        found = [torch_zip.same(archive, held["a"], held[other]) for other in "abcd"]
    assert found == [True, True, False, False]


@pytest.mark.parametrize("entry", ["data.pkl", "data/0"])
def test_an_archive_with_two_entries_of_one_name_is_left_to_torch(tmp_path, saved, entry):
    with zipfile.ZipFile(saved) as old:
        name = next(name for name in old.namelist() if name.endswith(entry))
        data = old.read(name)
    assert described(saved)
    with zipfile.ZipFile(saved, "a") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        archive.writestr(name, data)
    with pytest.raises(NotPlain):
        described(saved)


@pytest.mark.parametrize(("name", "size"), [("r/byteorder", 7), ("r/data.pkl", 101)])
def test_an_entry_over_its_limit_is_never_unpacked(tmp_path, monkeypatch, name, size):
    monkeypatch.setattr(torch_zip, "MAX_PICKLE_BYTES", 100)
    for compression in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        with zipfile.ZipFile(tmp_path / "a", "w", compression) as archive:
            archive.writestr(name, bytes(size))
            if name != "r/data.pkl":
                archive.writestr("r/data.pkl", b"\x80\x02}.", zipfile.ZIP_STORED)
        with torch_zip.opened(tmp_path / "a") as archive:
            monkeypatch.setattr(archive, "open", lambda *_: pytest.fail("it was unpacked"))
            monkeypatch.setattr(archive, "read", lambda *_: pytest.fail("it was unpacked"))
            with pytest.raises(NotPlain):
                torch_zip.describe(archive)


@pytest.mark.parametrize(("dimensions", "plain"), [(64, True), (65, False)])
def test_dimensions_are_no_more_than_torch_has(tmp_path, dimensions, plain):
    shape = b"(" + b"K\x01" * dimensions + b"t"
    with zipfile.ZipFile(tmp_path / "a", "w") as archive:
        archive.writestr("r/data.pkl", HEAD + b"}X\x01\x00\x00\x00x" + tensor(shape=shape, stride=shape) + b"s.")
        archive.writestr("r/data/0", bytes(24))
    if plain:
        assert len(described(tmp_path / "a")["x"].shape) == dimensions
    else:
        with pytest.raises(NotPlain):
            described(tmp_path / "a")


def test_tables_of_too_many_tensors_are_left_to_torch(saved, monkeypatch):
    monkeypatch.setattr(torch_zip, "MAX_TENSORS", 2)
    assert described(saved)
    monkeypatch.setattr(torch_zip, "MAX_TENSORS", 1)
    with pytest.raises(NotPlain):
        described(saved)


def test_an_archive_that_unpacks_to_more_than_it_is_never_reaches_torch(tmp_path, saved):
    torch_zip.refuse_packed(saved)
    torch.save({"x": torch.zeros(1)}, tmp_path / "legacy", _use_new_zipfile_serialization=False)
    torch_zip.refuse_packed(tmp_path / "legacy")
    bomb = rewritten(saved, tmp_path / "bomb", lambda _, data: data + bytes(1 << 20), zipfile.ZIP_DEFLATED)
    with pytest.raises(ValueError, match="unpacks to"):
        torch_zip.refuse_packed(bomb)
    with pytest.raises(ValueError, match="unpacks to"):
        convert_file(bomb, tmp_path / "out")
