import json

import pytest

from adapters.errors import InvalidPackage
from adapters.manifest import EmbeddingSpec, HeadSpec, Manifest, PartSpec, Requires, from_json, to_json

REQUIRES = Requires("bert", 32, 2, 4, "klingon")
HEAD = HeadSpec("classification", 2, "tanh", True, "first_token", ("NEG", "POS"), "single_label", "sst")
ADAPTER = Manifest(
    "adapter", REQUIRES, (PartSpec("lora", {"sites": {"0/attn_q": {"rank": 2}}}),), HEAD, source={"r": 2}
)


@pytest.mark.parametrize(
    "manifest",
    [
        ADAPTER,
        Manifest("head", REQUIRES, head=HEAD),
        Manifest("embedding", REQUIRES, embedding=EmbeddingSpec(10, 32, True)),
        Manifest("fusion", REQUIRES, children=("a", "b")),
    ],
)
def test_json_is_canonical_and_reads_back(manifest):
    text = to_json(manifest)
    assert from_json(text) == manifest
    assert to_json(from_json(text)) == text
    assert text == json.dumps(json.loads(text), sort_keys=True, separators=(",", ":"))


def change(path: str, value: object) -> str:
    raw = json.loads(to_json(ADAPTER))
    *parents, last = path.split(".")
    held = raw
    for key in parents:
        held = held[int(key)] if isinstance(held, list) else held[key]
    held[last] = value
    return json.dumps(raw)


@pytest.mark.parametrize(
    ("path", "value", "named"),
    [
        ("kind", "model", "manifest.kind"),
        ("kind", "embedding", "embedding"),
        ("kind", "head", "no method parts"),
        ("surprise", 1, "surprise"),
        ("requires", {}, "model_type"),
        ("requires.hidden_size", -1, "hidden_size"),
        ("requires.hidden_size", True, "hidden_size"),
        ("parts", {}, "manifest.parts"),
        ("parts", [], "lacks its adapter"),
        ("parts.0.method", 5, "method"),
        ("head.labels", ["a", "a"], "labels"),
        ("head.labels", [], "labels"),
        ("head.pooling", "mean", "pooling"),
        ("head.type", "question_answering", "type"),
        ("head.problem_type", None, "problem_type"),
        ("head.bias", 1, "bias"),
        ("source", [], "source"),
    ],
)
def test_faults_are_refused_naming_the_member(path, value, named):
    with pytest.raises(InvalidPackage, match=named):
        from_json(change(path, value))


@pytest.mark.parametrize("text", ["", "[]", "null", "{", '{"kind": NaN}', "[" * 100_000])
def test_what_is_no_json_object_is_refused(text):
    with pytest.raises(InvalidPackage):
        from_json(text)


def test_the_method_of_a_union_names_every_part():
    both = Manifest("adapter", REQUIRES, (PartSpec("bottleneck", {}), PartSpec("invertible", {})))
    assert both.method == "bottleneck+invertible"
    assert Manifest("head", REQUIRES, head=HEAD).method == "head"
