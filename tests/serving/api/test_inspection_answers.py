import pytest

from adapters.refs import AdapterRef
from serving.api.inspection_answers import inspection_answer, outlook_of
from serving.registry.inspection import Inspection, Trial
from serving.registry.records import CheckReport, NameRecord, Quota, Version
from tests.serving import fakes, samples

DIGEST, OTHER = "sha256:" + "a" * 64, "sha256:" + "b" * 64


def found(digest=DIGEST, kind="adapter", trial=None):
    head = fakes.head_spec(("O", "B"), "token") if kind == "adapter" else None
    manifest = fakes.adapter_manifest(head, kind=kind)
    report = CheckReport(digest, 100, manifest, 60, ("mind the gap",))
    matched = {"linear": ("q", "v"), "junction": ("q",)}
    return Inspection(report, 12, matched, ("k",), trial, "" if trial else "no backbone")


def record(name, *digests, space="adapter", last=0, manifest=None):
    versions = tuple(
        Version(AdapterRef("t", name, n, digest), space, manifest or fakes.adapter_manifest(), 40, 0.0, "k")
        for n, digest in enumerate(digests, 1)
    )
    return NameRecord("t", space, name, versions, {}, frozenset(), 3, last)


def outlook(held=(), last=0, quota=None, **changes):
    return outlook_of("tone", found(**changes), list(held), last, quota or Quota())


def test_a_package_is_told_whole():
    trial = Trial("hi", 3, 1.5, 0.25, {"label": "B", "score": 0.9})
    told = inspection_answer("tone", found(trial=trial), outlook())
    assert (told["digest"], told["bytes"], told["device_bytes"], told["parameters"]) == (DIGEST, 100, 60, 12)
    assert (told["method"], told["methods"], told["task"], told["labels"]) == (
        "lora",
        ["lora"],
        "token-classification",
        ["O", "B"],
    )
    assert told["modules"] == {"count": 2, "matched": {"linear": ["q", "v"], "junction": ["q"]}, "untouched": ["k"]}
    assert told["trial"] == {"input": "hi", "tokens": 3, "norm": 1.5, "change": 0.25, "answer": trial.answer}
    assert told["warnings"] == ["mind the gap"]
    untried = inspection_answer("tone", found(), outlook())
    assert (untried["trial"], untried["untried"]) == (None, "no backbone")


@pytest.mark.parametrize(
    ("held", "last", "creates", "version"),
    [
        ((), 0, True, 1),
        ((), 4, True, 5),
        ((record("tone", OTHER),), 0, True, 2),
        ((record("tone", OTHER, last=7),), 0, True, 8),
        ((record("tone", OTHER, DIGEST),), 0, False, 2),
        ((record("bob", DIGEST),), 0, True, 1),
        ((record("tone", DIGEST, space="embedding"),), 0, True, 1),
    ],
)
def test_the_version_is_the_next_one_or_the_one_that_has_these_bytes(held, last, creates, version):
    told = outlook(held, last)
    assert (told["creates"], told["version"]) == (creates, version)


def test_bytes_count_once_and_names_once():
    held = (record("tone", OTHER), record("bob", OTHER, DIGEST))
    told = outlook(held, quota=Quota(adapters=2, nbytes=80))
    assert told["names"] == {"held": 2, "asked": 0, "allowed": 2}
    assert told["bytes"] == {"held": 80, "asked": 0, "allowed": 80}
    assert told["refused"] is None


def test_what_is_over_a_quota_is_told_with_every_number():
    told = outlook((record("bob", OTHER),), quota=Quota(adapters=1, nbytes=139))
    assert (
        told["refused"] == "1 names and 1 more are over the quota of 1; 40 bytes and 100 more are over the quota of 139"
    )
    assert outlook((record("bob", OTHER),), quota=Quota(adapters=2, nbytes=140))["refused"] is None


def test_the_name_of_a_target_takes_no_package():
    target = record("tone", OTHER, manifest=samples.target_manifest({"stack": []}))
    assert outlook((target,))["refused"] == "'tone' is the name of a target"
