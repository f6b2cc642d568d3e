import io
import json
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file

from adapters.formats import convert_worker
from adapters.formats.convert_worker import convert_file
from adapters.formats.torch_zip import NotPlain

OWN = "bert.prefix_tuning.prefix_tunings.a.self_prefix.control_trans"
POOL = "bert.encoder.layer.0.attention.self.prefix_tuning.pool.prefix_tunings.a.self_prefix.control_trans"


def converted(tmp_path, value, **how):
    torch.save(value, tmp_path / "in.bin", **how)
    convert_file(tmp_path / "in.bin", tmp_path / "out.safetensors")
    return load_file(tmp_path / "out.safetensors")


@pytest.fixture(params=["plain", "torch"])
def how(request, monkeypatch):
    """Both ways of reading: a plain archive without torch, and anything else with it."""
    if request.param == "plain":
        monkeypatch.setattr(convert_worker, "load_with_torch", lambda *_: pytest.fail("torch was asked"))
        return {}
    return {"_use_new_zipfile_serialization": False}


def test_copies_of_a_prefix_in_the_pool_are_left_out(tmp_path, how):
    x = torch.randn(6)
    assert set(converted(tmp_path, {OWN: x, POOL: x}, **how)) == {OWN}
    bare = {key.removeprefix("bert."): x for key in (OWN, POOL)}
    assert set(converted(tmp_path, bare, **how)) == {OWN.removeprefix("bert.")}


def test_copies_without_an_owner_are_kept_apart(tmp_path, how):
    x = torch.randn(6)
    other = POOL.replace("layer.0", "layer.1")
    assert set(converted(tmp_path, {POOL: x, other: x}, **how)) == {POOL, other}


def test_copies_that_differ_from_their_owner_are_refused(tmp_path, how):
    with pytest.raises(ValueError, match="differ"):
        converted(tmp_path, {OWN: torch.zeros(6), POOL: torch.ones(6)}, **how)


def test_a_copy_of_another_adapter_or_parameter_is_no_copy(tmp_path, how):
    x = torch.randn(6)
    assert len(converted(tmp_path, {OWN.replace(".a.", ".xa."): x, POOL: x}, **how)) == 2


def test_views_and_shared_memory_become_tensors_of_their_own(tmp_path):
    x = torch.arange(12.0).view(3, 4)
    found = converted(tmp_path, {"x": x, "t": x.t(), "row": x[1]})
    assert torch.equal(found["t"], x.t())
    assert torch.equal(found["row"], x[1])


def test_a_bare_tensor_is_an_embedding(tmp_path, how):
    assert set(converted(tmp_path, torch.nn.Parameter(torch.ones(2, 2)), **how)) == {"embedding"}


@pytest.mark.parametrize(
    "value",
    [{"x": 1}, {"x": [torch.zeros(1)]}, [torch.zeros(1)], {1: torch.zeros(1)}, {"x": torch.zeros(2).to_sparse()}],
)
def test_anything_but_dense_tensors_by_name_is_refused(tmp_path, value):
    with pytest.raises((ValueError, TypeError)):
        converted(tmp_path, value)
    assert not (tmp_path / "out.safetensors").exists()


def test_both_ways_write_the_same_tensors(tmp_path):
    held = {"a": torch.randn(3, 2), "b": torch.ones(1, dtype=torch.bfloat16), "c": torch.arange(3)}
    one = converted(tmp_path, held)
    two = converted(tmp_path, held, _use_new_zipfile_serialization=False)
    assert one.keys() == two.keys() == held.keys()
    assert all(torch.equal(one[name], two[name]) and one[name].dtype == held[name].dtype for name in held)


def test_what_would_become_too_large_is_not_copied(tmp_path, monkeypatch):
    monkeypatch.setattr(convert_worker, "MAX_BYTES", 39)
    torch.save({"a": torch.ones(10)}, tmp_path / "in.bin")
    with pytest.raises(NotPlain):
        convert_worker.copy_plain(tmp_path / "in.bin", tmp_path / "out")


def asked(tmp_path, jobs):
    return subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "adapters.formats.convert_worker", str(4 << 30)],
        input=json.dumps(jobs).encode(),
        capture_output=True,
        check=False,
    )


def test_plain_files_are_converted_in_one_process_that_never_imports_torch(tmp_path):
    jobs = []
    for i in range(3):
        torch.save({"x": torch.full((2,), float(i))}, tmp_path / f"{i}.bin")
        jobs.append([str(tmp_path / f"{i}.bin"), str(tmp_path / f"{i}.safetensors")])
    done = asked(tmp_path, jobs)
    assert (done.returncode, json.loads(done.stdout)) == (0, {"error": None})
    assert [load_file(job[1])["x"][0].item() for job in jobs] == [0, 1, 2]
    assert b"zipfile" in done.stderr
    assert b" torch\n" not in done.stderr
    assert b" numpy\n" not in done.stderr


def test_the_first_file_that_fails_is_named_and_leaves_nothing(tmp_path):
    torch.save({"x": torch.ones(1)}, tmp_path / "good.bin")
    torch.save({"x": 1}, tmp_path / "bad.bin")
    jobs = [[str(tmp_path / f"{name}.bin"), str(tmp_path / f"{name}.out")] for name in ("good", "bad")]
    done = asked(tmp_path, jobs)
    answer = json.loads(done.stdout)
    assert (done.returncode, answer["file"]) == (1, "bad.bin")
    assert "is no tensor" in answer["error"]
    assert not (tmp_path / "bad.out").exists()


def test_jobs_that_are_none_are_an_answer_as_well(capsys, monkeypatch):
    monkeypatch.setattr(convert_worker.resource, "setrlimit", lambda *_: None)
    assert convert_worker.main([str(1 << 30)], io.BytesIO(b"nonsense")) == 1
    assert "JSONDecodeError" in json.loads(capsys.readouterr().out)["error"]


def test_what_was_begun_of_the_failing_file_is_removed(tmp_path, monkeypatch, capsys):
    def half(_, target):
        target.write_bytes(b"half")
        raise ValueError("broken in the middle")

    monkeypatch.setattr(convert_worker.resource, "setrlimit", lambda *_: None)
    monkeypatch.setattr(convert_worker, "convert_file", half)
    jobs = json.dumps([["in.bin", str(tmp_path / "out")]]).encode()
    assert convert_worker.main([str(1 << 30)], io.BytesIO(jobs)) == 1
    assert "broken in the middle" in json.loads(capsys.readouterr().out)["error"]
    assert not (tmp_path / "out").exists()


def test_a_copy_that_several_keys_could_own_is_kept(tmp_path, how):
    x = torch.randn(6)
    held = {OWN: x, OWN.replace("bert.", "teacher."): x + 1, POOL: x}
    assert set(converted(tmp_path, held, **how)) == set(held)


def test_a_name_that_is_too_long_is_refused(tmp_path, how):
    with pytest.raises(ValueError, match="more than 1000 characters"):
        converted(tmp_path, {"x" * 1001: torch.zeros(1)}, **how)


def test_keys_of_the_pool_are_not_compared_with_every_other_key():
    class Names(dict):
        passes = 0

        def __iter__(self):
            self.passes += 1
            return super().__iter__()

    names = Names.fromkeys(f"x.prefix_tuning.pool.q{i}" for i in range(100))
    assert convert_worker._without_copies(names, lambda *_: pytest.fail("compared")) == list(dict(names))
    assert names.passes <= 4
