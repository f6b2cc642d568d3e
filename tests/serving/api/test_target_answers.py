from adapters.manifest import TargetSpec
from adapters.refs import AdapterRef
from serving.api.target_answers import composition_answer
from serving.registry.records import Resolved, Version
from tests.serving.fakes import adapter_manifest


def version(name, number, space="adapter"):
    ref = AdapterRef("default", name, number, "sha256:" + f"{number:064x}")
    return Resolved(Version(ref, space, adapter_manifest(), 1, 0.0, "k"), None)


def test_digests_are_told_as_versions_in_every_place():
    lang, fused, words = version("lang", 7), version("fused", 2), version("klingon", 3, "embedding")
    pins = {
        item.version.ref.name: f"{item.version.ref.name}@{item.version.ref.digest}" for item in (lang, fused, words)
    }
    spec = TargetSpec(
        {"stack": [pins["lang"], {"fuse": [pins["lang"], pins["lang"]], "name": pins["fused"]}], "skip_layers": [1]},
        embedding=pins["klingon"],
        head=pins["lang"],
    )
    answer = composition_answer(spec, [("adapter", lang), ("fusion", fused), ("head", lang), ("embedding", words)])
    assert answer["adapters"] == {
        "stack": ["lang@7", {"fuse": ["lang@7", "lang@7"], "name": "fused@2"}],
        "skip_layers": [1],
    }
    assert (answer["embedding"], answer["head"]) == ("klingon@3", "lang@7")
    assert answer["members"][1] == {
        "role": "fusion",
        "name": "fused",
        "version": 2,
        "digest": fused.version.ref.digest,
    }


def test_the_backbones_own_vocabulary_and_none_stay_as_they_are():
    for embedding in ("default", None):
        answer = composition_answer(TargetSpec({"stack": []}, embedding), [])
        assert (answer["embedding"], answer["head"], answer["members"]) == (embedding, None, [])
