import asyncio
import json
import os
import struct
from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file

from adapters.errors import Misfit
from adapters.formats import native
from adapters.manifest import EmbeddingSpec, HeadSpec, Manifest, PartSpec, TargetSpec
from adapters.methods.fold import expected
from adapters.weights import Package
from serving.errors import Unprocessable, UnsupportedMedia
from serving.registry import check_worker
from serving.registry.check_attempts import Attempts
from serving.registry.checker import Checker
from serving.registry.records import MatrixJob
from tests.adapters import builders
from tests.serving.registry.given import PROFILE, REQUIRES, digest_of
from tests.serving.samples import tokenizer_json as sample_tokenizer

LORA = PartSpec("lora", {"sites": {"0/attn_q": {"rank": 2, "scaling": 1.0, "bias": False}}})


HUGE = {"rank": 2, "scaling": 3e38, "bias": False}


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


def test_a_real_worker_gives_way_to_predictions():
    async def scenario():
        checker = Checker(PROFILE)
        try:
            await checker.start()
            return os.getpriority(os.PRIO_PROCESS, checker._process.pid)
        finally:
            await checker.stop()

    assert asyncio.run(scenario()) > os.getpriority(os.PRIO_PROCESS, 0)


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


def tokenizer_of(*words):
    """A tokenizer.json that knows these words, in this order."""
    return json.dumps(
        {
            "version": "1.0",
            "truncation": None,
            "padding": None,
            "added_tokens": [],
            "normalizer": None,
            "pre_tokenizer": {"type": "Whitespace"},
            "post_processor": None,
            "decoder": None,
            "model": {"type": "WordLevel", "vocab": {word: n for n, word in enumerate(words)}, "unk_token": words[-1]},
        }
    ).encode()


def test_a_token_embedding_takes_no_room_on_the_device(tmp_path):
    from tests.serving.registry.given import manifest_of

    tokenizer = json.loads(tokenizer_of(*(f"w{n}" for n in range(29)), "[UNK]"))
    raw = torch.frombuffer(bytearray(json.dumps(tokenizer).encode()), dtype=torch.uint8)
    tensors = {"embedding/matrix/weight": torch.ones(30, 8), "embedding/tokenizer/bytes": raw}
    path = tmp_path / "embedding"
    path.write_bytes(native.write(Package(manifest_of("embedding"), tensors)))
    report = check_worker.examine(path, PROFILE)
    assert (report["device_bytes"], report["warnings"]) == (0, [])


def test_a_target_is_not_uploaded(tmp_path):
    path = tmp_path / "target"
    path.write_bytes(native.write(Package(Manifest("target", REQUIRES, target=TargetSpec({"stack": []})), {})))
    with pytest.raises(Misfit, match="PUT /v1/targets"):
        check_worker.examine(path, PROFILE)


@pytest.fixture
def backbone(tmp_path):
    """A folder with the backbone's own vocabulary: row n is all n."""
    folder = tmp_path / "tiny"
    folder.mkdir()
    words = torch.arange(30.0)[:, None].expand(30, 8).contiguous()
    save_file({"bert.embeddings.word_embeddings.weight": words}, folder / "model.safetensors")
    (folder / "tokenizer.json").write_bytes(tokenizer_of("[UNK]", *(f"w{n}" for n in range(1, 30))))
    return folder


@pytest.fixture
def build(tmp_path, backbone):
    def run(words, folder=backbone, **changes):
        (tmp_path / "tokenizer").write_bytes(words if isinstance(words, bytes) else tokenizer_of(*words))
        job = {
            "tokenizer": tmp_path / "tokenizer",
            "copy": True,
            "package": None,
            "reference_tokenizer": None,
            "seed": 3,
            "max_bytes": 1 << 20,
            "source": "default",
        }
        return check_worker.build(job | changes, PROFILE, folder)

    return run


def matrix_of(data):
    return native.read(data).tensors["embedding/matrix/weight"]


def test_a_new_vocabulary_copies_the_rows_of_words_that_the_backbone_knows(build, tmp_path):
    data = build(("nuq", "w7", "[UNK]", "w2"))
    matrix = matrix_of(data)
    assert matrix[1:, 0].tolist() == [7.0, 0.0, 2.0]
    assert torch.equal(matrix[0], matrix_of(build(("nuq", "w7", "[UNK]", "w2"), copy=False))[0])
    manifest = native.read(data).manifest
    assert manifest.source == {"reference_embedding": "default", "seed": 3}
    assert native.read(data).tensors["embedding/tokenizer/bytes"].numpy().tobytes() == tokenizer_of(
        "nuq", "w7", "[UNK]", "w2"
    )
    (tmp_path / "made").write_bytes(data)
    assert check_worker.examine(tmp_path / "made", PROFILE)["nbytes"] == len(data)
    assert build(("nuq", "w7", "[UNK]", "w2")) == data


def test_a_published_embedding_is_copied_by_its_own_tokenizer_or_by_a_given_one(build, tmp_path):
    package, names = tmp_path / "package", tmp_path / "names"
    package.write_bytes(build(("nuq", "w7", "[UNK]")))
    names.write_bytes(tokenizer_of("other", "a", "b"))
    held = matrix_of(package.read_bytes())
    assert torch.equal(matrix_of(build(("[UNK]", "nuq"), package=package)), held[[2, 0]])
    renamed = matrix_of(build(("[UNK]", "a", "b"), package=package, reference_tokenizer=names))
    assert torch.equal(renamed[1:], held[1:])
    assert not torch.equal(renamed[0], held[2])


def test_an_embedding_without_a_tokenizer_is_named_by_the_backbones(build, tmp_path):
    manifest = Manifest("embedding", REQUIRES, embedding=EmbeddingSpec(30, 8, tokenizer=False))
    (tmp_path / "package").write_bytes(native.write(Package(manifest, {"embedding/matrix/weight": torch.ones(30, 8)})))
    assert matrix_of(build(("w5", "nuq"), package=tmp_path / "package"))[0].tolist() == [1.0] * 8


@pytest.mark.parametrize(
    ("words", "changes", "reason"),
    [
        (b"no json", {}, "the tokenizer is not JSON"),
        (b'{"model": {"type": "BPE", "vocab": {}, "merges": []}}', {}, "no tokens"),
        (("a",), {"max_bytes": 100}, "more than 100 bytes"),
        (("a",), {"folder": None}, "no vocabulary to copy from"),
        (tokenizer_of("a").replace(b'"Whitespace"', b'"Split"'), {}, "can not be used"),
    ],
)
def test_a_vocabulary_that_can_not_be_right_is_refused(build, words, changes, reason):
    with pytest.raises(Misfit, match=reason):
        build(words, **changes)


def test_a_wrong_reference_tokenizer_is_refused_by_its_name(build, tmp_path):
    (tmp_path / "names").write_bytes(b"{}")
    with pytest.raises(Misfit, match="the reference tokenizer"):
        build(("a",), reference_tokenizer=tmp_path / "names")


def test_a_real_worker_looks_into_a_package_and_tries_it_on_the_backbone(tmp_path):
    profile, folder = builders.profile("bert"), builders.folder("bert")
    if not (folder / "tokenizer.json").exists():
        (folder / "tokenizer.json").write_bytes(sample_tokenizer())
    good, idle, wrong = (tmp_path / name for name in ("good", "idle", "wrong"))
    package = builders.package("bert", [builders.lora()], builders.HEADS["two_layers"])
    good.write_bytes(native.write(package))
    still = {name: torch.zeros_like(t) if "lora" in name else t for name, t in package.tensors.items()}
    idle.write_bytes(native.write(Package(package.manifest, still)))
    wrong.write_bytes(b"PK\x03\x04")

    async def scenario():
        checker = Checker(profile, folder)
        try:
            found = [await checker.inspect(path, "i love it") for path in (good, idle)]
            with pytest.raises(UnsupportedMedia):
                await checker.inspect(wrong, "i love it")
            with pytest.raises(Unprocessable, match="tokens; this backbone takes"):
                await checker.inspect(good, "i " * 60)
            return (*found, await checker.check(good))
        finally:
            await checker.stop()

    found, nothing, report = asyncio.run(scenario())
    assert found.report == report
    assert found.parameters == sum(tensor.numel() for tensor in package.tensors.values())
    assert found.matched["linear"][0] == "encoder.layer.0.attention.self.query"
    assert "encoder.layer.0.attention.self.key" in found.untouched
    assert (found.trial.input, found.trial.tokens) == ("i love it", 5)
    assert found.trial.change > 0
    assert found.trial.answer["label"] in ("a", "b", "c")
    assert nothing.trial.change == 0.0
    assert [warning for warning in nothing.report.warnings if "changes nothing" in warning]
    assert found.report.warnings == ()


def test_without_a_backbone_a_dry_run_says_so():
    attempts = Attempts(None, None)
    assert attempts.run(package_of(), "hello")[1] == "this service has no backbone to try it on"


def test_a_real_worker_builds_and_goes_on(tmp_path, backbone):
    (tmp_path / "tokenizer").write_bytes(tokenizer_of("nuq", "w7"))
    (tmp_path / "bad").write_bytes(b"bad")
    job = MatrixJob(tmp_path / "tokenizer", True, None, None, 3, 1 << 20, "default")

    async def scenario():
        checker = Checker(PROFILE, backbone)
        try:
            await checker.build(job, tmp_path / "made")
            with pytest.raises(Unprocessable, match="not JSON"):
                await checker.build(replace(job, tokenizer=tmp_path / "bad"), tmp_path / "other")
            return await checker.check(tmp_path / "made")
        finally:
            await checker.stop()

    report = asyncio.run(scenario())
    assert report.digest == digest_of((tmp_path / "made").read_bytes())
    assert report.manifest.embedding == EmbeddingSpec(2, 8, tokenizer=True)
    assert matrix_of((tmp_path / "made").read_bytes())[1].tolist() == [7.0] * 8
    assert not (tmp_path / "other").exists()
