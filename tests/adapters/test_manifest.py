import json

import pytest

from adapters.errors import InvalidPackage
from adapters.manifest import EmbeddingSpec, HeadSpec, Manifest, PartSpec, TargetSpec, from_json, to_json
from adapters.requires import Requires

REQUIRES = Requires("bert", 32, 2, 4, "klingon")
HEAD = HeadSpec("classification", 2, "tanh", True, "first_token", ("NEG", "POS"), "single_label", "sst")
ADAPTER = Manifest(
    "adapter", REQUIRES, (PartSpec("lora", {"sites": {"0/attn_q": {"rank": 2}}}),), HEAD, source={"r": 2}
)
FUSION = Manifest("fusion", REQUIRES, (PartSpec("fusion", {"sites": {}}),), children=("a", "b"))
TARGET = Manifest("target", REQUIRES, target=TargetSpec({"stack": ["lang@1", "task@prod"]}, "klingon@2", "sst"))
PARSE = HeadSpec("dependency_parsing", 1, None, True, "tokens", ("nsubj", "obj"), "tree")
LANGUAGE = HeadSpec(
    "masked_lm",
    2,
    "gelu",
    True,
    "tokens",
    (),
    "vocabulary",
    "mlm",
    vocabulary=400,
    width=24,
    norm_eps=1e-12,
    inverse=False,
)
CHOICE = HeadSpec("multiple_choice", 2, "tanh", True, "first_token", (), "choice", choices=3)


@pytest.mark.parametrize(
    "manifest",
    [
        ADAPTER,
        Manifest("head", REQUIRES, head=HEAD),
        Manifest("head", REQUIRES, head=PARSE),
        Manifest("head", REQUIRES, head=LANGUAGE),
        Manifest("head", REQUIRES, head=CHOICE),
        Manifest("embedding", REQUIRES, embedding=EmbeddingSpec(10, 32, True)),
        FUSION,
        TARGET,
        Manifest("adapter", REQUIRES, parts=(PartSpec("lora", {}),), route=(0, 1, 1)),
        Manifest("target", REQUIRES, target=TargetSpec({"fuse": ["a", "b"], "name": "both"})),
    ],
)
def test_json_is_canonical_and_reads_back(manifest):
    text = to_json(manifest)
    assert from_json(text) == manifest
    assert to_json(from_json(text)) == text
    assert text == json.dumps(json.loads(text), sort_keys=True, separators=(",", ":"))


def change(path: str, value: object, manifest: Manifest = ADAPTER) -> str:
    raw = json.loads(to_json(manifest))
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
        ("head.pooling", "median", "pooling"),
        ("head.type", "speech", "type"),
        ("head.type", "masked_lm", "labels"),
        ("head.vocabulary", 0, "head.vocabulary"),
        ("head.choices", True, "head.choices"),
        ("head.width", "24", "head.width"),
        ("head.norm_eps", 1.5, "head.norm_eps"),
        ("head.norm_eps", "small", "head.norm_eps"),
        ("head.inverse", 1, "head.inverse"),
        ("target", {"adapters": {"stack": ["a"]}}, "manifest.target belongs to kind 'target'"),
        ("head.problem_type", None, "problem_type"),
        ("head.bias", 1, "bias"),
        ("source", [], "source"),
    ],
)
def test_faults_are_refused_naming_the_member(path, value, named):
    with pytest.raises(InvalidPackage, match=named):
        from_json(change(path, value))


@pytest.mark.parametrize(
    ("manifest", "path", "value", "named"),
    [
        (TARGET, "target", None, "manifest.target belongs"),
        (TARGET, "target.adapters", ["a"], "target.adapters must be an object"),
        (TARGET, "target.adapters", {"stack": ["a", {"fuse": []}]}, "target.adapters/stack/1/fuse"),
        (TARGET, "target.embedding", "No Name!", "target.embedding"),
        (TARGET, "target.head", 7, "target.head"),
        (TARGET, "target.surprise", 1, "surprise"),
        (TARGET, "parts", [{"method": "lora", "config": {}}], "no method parts"),
        (TARGET, "head", json.loads(to_json(ADAPTER))["head"], "refers to a head"),
        (FUSION, "parts", [], "lacks its fusion"),
        (FUSION, "children", [], "manifest.children"),
        (Manifest("head", REQUIRES, head=CHOICE), "head.labels", ["a", "b"], "as many as manifest.head.choices"),
        (Manifest("head", REQUIRES, head=LANGUAGE), "head.labels", ["a"], "must be empty"),
        (Manifest("head", REQUIRES, head=PARSE), "head.labels", [], "1 to"),
    ],
)
def test_every_kind_holds_what_belongs_to_it(manifest, path, value, named):
    with pytest.raises(InvalidPackage, match=named):
        from_json(change(path, value, manifest))


def test_a_manifest_from_before_the_later_members_reads_and_keeps_its_bytes():
    text = to_json(ADAPTER)
    raw = json.loads(text)
    assert raw["head"].keys() == {
        "type", "layers", "activation", "bias", "pooling", "labels", "problem_type", "name"
    }  # fmt: skip
    assert "target" not in raw
    assert to_json(from_json(text)) == text
    assert (from_json(text).head.choices, from_json(text).head.inverse) == (None, True)


@pytest.mark.parametrize("number", ["1e999", "-1e999", "1" + "0" * 400])
def test_a_number_that_overflows_is_refused_by_its_place(number):
    text = to_json(ADAPTER).replace('"rank":2', f'"rank":{number}')
    with pytest.raises(InvalidPackage, match=r"manifest: parts\.0\.config\.sites\.0/attn_q\.rank is"):
        from_json(text)
    with pytest.raises(InvalidPackage, match=r"manifest: source\.r is"):
        from_json(to_json(ADAPTER).replace('"source":{"r":2}', f'"source":{{"r":{number}}}'))


@pytest.mark.parametrize("text", ["", "[]", "null", "{", '{"kind": NaN}', "[" * 100_000])
def test_what_is_no_json_object_is_refused(text):
    with pytest.raises(InvalidPackage):
        from_json(text)


def test_the_method_of_a_union_names_every_part():
    both = Manifest("adapter", REQUIRES, (PartSpec("bottleneck", {}), PartSpec("invertible", {})))
    assert both.method == "bottleneck+invertible"
    assert Manifest("head", REQUIRES, head=HEAD).method == "head"
