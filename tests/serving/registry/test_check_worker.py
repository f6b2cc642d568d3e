import asyncio
import json
import struct
from dataclasses import replace

import pytest
import torch

from adapters.formats import native
from adapters.manifest import HeadSpec, Manifest, PartSpec
from adapters.methods.fold import expected
from adapters.weights import Package
from serving.errors import Unprocessable, UnsupportedMedia
from serving.registry import check_worker
from serving.registry.checker import Checker
from tests.serving.registry.given import PROFILE, REQUIRES, digest_of

LORA = PartSpec("lora", {"sites": {"0/attn_q": {"rank": 2, "scaling": 1.0, "bias": False}}})


HUGE = {"rank": 2, "scaling": 1e39, "bias": False}


def package_of(head=None, part=LORA, **changes):
    manifest = Manifest("adapter", REQUIRES, parts=(part,), head=head)
    generator = torch.Generator().manual_seed(0)
    tensors = {name: torch.randn(shape, generator=generator) for name, shape in expected(manifest, PROFILE).items()}
    return Package(manifest, tensors | changes)


def head_of(*labels):
    return HeadSpec("classification", 1, None, True, "first_token", labels, "single_label")


@pytest.fixture(scope="module")
def verdicts():
    """The verdicts of one real worker process on many files, in order."""

    def judge(paths, **options):
        async def scenario():
            checker = Checker(PROFILE, **options)
            try:
                return await asyncio.gather(*(checker.check(path) for path in paths), return_exceptions=True)
            finally:
                await checker.stop()

        return asyncio.run(scenario())

    return judge


def test_a_real_worker_reports_good_files_and_refuses_hostile_ones(tmp_path, verdicts):
    good = native.write(package_of(head_of("no", "yes")))
    nan = torch.full((2, 8), float("nan"))
    hostile = {
        "cut": good[:-4],
        "pickle": b"\x80\x04\x95" + b"x" * 100,
        "zip": b"PK\x03\x04" + b"x" * 100,
        "long": struct.pack("<Q", 1 << 40) + b"{}",
        "nan": native.write(package_of(**{"0/attn_q/lora_A": nan})),
        "misfit": native.write(package_of(**{"0/attn_q/lora_A": torch.zeros(3, 8), "1/attn_q/extra": torch.zeros(1)})),
        "overflow": native.write(package_of(part=replace(LORA, config={"sites": {"0/attn_q": HUGE}}))),
        "empty": b"",
    }
    paths = []
    for name, data in {"good": good, **hostile, "again": good}.items():
        paths.append(tmp_path / name)
        paths[-1].write_bytes(data)
    report, cut, pickle, zipped, long, nans, misfit, overflow, empty, again = verdicts(paths)
    assert report.digest == digest_of(good)
    assert report.nbytes == len(good)
    assert report.manifest == native.read(good).manifest
    assert report.device_bytes > 0
    assert report.warnings == ()
    assert again == report
    assert {type(error) for error in (pickle, zipped)} == {UnsupportedMedia}
    for error in (cut, long, empty):
        assert (type(error), error.code) == (Unprocessable, "invalid_package")
    for error in (nans, misfit, overflow):
        assert (type(error), error.code) == (Unprocessable, "does_not_fit")
    assert "0/attn_q/lora_A" in nans.detail
    assert len(misfit.faults) >= 2
    assert "scaling is too large" in overflow.detail


def test_a_file_that_needs_too_much_memory_is_refused(tmp_path, verdicts):
    big = tmp_path / "big"
    header = json.dumps(
        {
            "__metadata__": {"format": "chorus/1", "manifest": native_manifest()},
            "0/attn_q/lora_A": {"dtype": "F32", "shape": [1 << 24], "data_offsets": [0, 1 << 26]},
        }
    ).encode()
    with big.open("wb") as file:
        file.write(struct.pack("<Q", len(header)) + header)
        file.truncate(8 + len(header) + (1 << 26))
    (refused,) = verdicts([big], memory_bytes=16 << 20)
    assert "more memory" in refused.detail


def native_manifest():
    from adapters.manifest import to_json

    return to_json(package_of().manifest)


def test_a_publisher_is_warned_of_a_head_without_names_and_of_no_head():
    warn = check_worker.warnings_of
    assert "LABEL_0" in warn(package_of(head_of("LABEL_0", "LABEL_1")).manifest)[0]
    assert warn(package_of(head_of("LABEL_0", "yes")).manifest) == []
    assert "no head" in warn(package_of().manifest)[0]


def test_an_unexpected_error_is_told_by_type_only():
    assert check_worker.refusal_of(KeyError("secret path"))["message"] == "the check failed on this file (KeyError)"
    assert check_worker.refusal_of(MemoryError())["error"] == "memory"


def test_a_token_embedding_takes_no_room_on_the_device(tmp_path):
    from tests.serving.registry.given import manifest_of

    vocabulary = {f"w{n}": n for n in range(29)} | {"[UNK]": 29}
    tokenizer = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [],
        "normalizer": None,
        "pre_tokenizer": {"type": "Whitespace"},
        "post_processor": None,
        "decoder": None,
        "model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": "[UNK]"},
    }
    raw = torch.frombuffer(bytearray(json.dumps(tokenizer).encode()), dtype=torch.uint8)
    tensors = {"embedding/matrix/weight": torch.ones(30, 8), "embedding/tokenizer/bytes": raw}
    path = tmp_path / "embedding"
    path.write_bytes(native.write(Package(manifest_of("embedding"), tensors)))
    report = check_worker.examine(path, PROFILE)
    assert (report["device_bytes"], report["warnings"]) == (0, [])
