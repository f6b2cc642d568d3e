import asyncio
from dataclasses import replace

import pytest

from adapters.composition import parse
from adapters.manifest import EmbeddingSpec, HeadSpec, Manifest, PartSpec
from adapters.refs import AdapterRef
from serving.api.assembling import TargetWish, assemble
from serving.api.resolving import Resolver
from serving.errors import NotFound, Unprocessable
from serving.registry.records import Resolved, Version
from serving.registry.targets import package_bytes, reworded
from tests.serving.registry.given import GEOMETRY, REQUIRES, digest_of, manifest_of

HEAD = HeadSpec("classification", 1, None, True, "first_token", ("no", "yes"), "single_label")
FUSION = Manifest("fusion", REQUIRES, parts=(PartSpec("fusion", {"sites": {}}),), children=("x", "y"))
PLAIN = replace(manifest_of("adapter"), parts=(PartSpec("bottleneck", {"sites": {}}),))
HELD = {
    ("adapter", "lang"): PLAIN,
    ("adapter", "task"): replace(PLAIN, head=HEAD),
    ("adapter", "other"): PLAIN,
    ("adapter", "head"): Manifest("head", REQUIRES, head=HEAD),
    ("adapter", "fuse"): FUSION,
    ("adapter", "swahili"): replace(manifest_of("adapter"), requires=replace(REQUIRES, embedding="klingon")),
    ("adapter", "finnish"): replace(manifest_of("adapter"), requires=replace(REQUIRES, embedding="vulcan")),
    ("embedding", "klingon"): manifest_of("embedding"),
    ("embedding", "vulcan"): manifest_of("embedding"),
}


class Names:
    """One version of each; every look-up is counted."""

    def __init__(self, **more):
        self.held = HELD | {("adapter", name): manifest for name, manifest in more.items()}
        self.asked = []

    async def resolve(self, tenant, space, reference):
        self.asked.append((tenant, space, str(reference)))
        manifest = self.held.get((space, reference.name))
        if manifest is None:
            raise NotFound(f"no {space} {reference.name!r}", code=f"{space}_not_found")
        return found(space, reference.name, manifest, tenant)


def found(space, name, manifest, tenant="acme"):
    ref = AdapterRef(tenant, name, 3, digest_of(f"{space} {name}".encode()))
    return Resolved(Version(ref, space, manifest, 1, 0.0, "key1"), None)


def made(adapters, embedding=None, head=None, names=None):
    return asyncio.run(assemble(TargetWish(adapters, embedding, head), Resolver("acme", names or Names()), GEOMETRY))


def at(name, space="adapter"):
    return f"{name}@{digest_of(f'{space} {name}'.encode())}"


def refused(*arguments, **options):
    with pytest.raises((Unprocessable, NotFound)) as caught:
        made(*arguments, **options)
    return caught.value.code, caught.value.faults[0].pointer


def test_every_name_is_pinned_to_the_digest_that_it_has_now():
    target = made(["lang", "task@prod"], "klingon", "head@3")
    spec = target.manifest.target
    assert spec.adapters == {"stack": [at("lang"), at("task")]}
    assert (spec.embedding, spec.head) == (at("klingon", "embedding"), at("head"))
    assert [(m.space, m.ref.name) for m in target.members] == [
        ("adapter", "lang"),
        ("adapter", "task"),
        ("adapter", "head"),
        ("embedding", "klingon"),
    ]
    assert target.manifest.requires == REQUIRES


@pytest.mark.parametrize(
    "written",
    [
        {"fuse": ["lang", "task"], "name": "fuse"},
        {"stack": ["lang", {"fuse": ["other", ["lang", "task"]], "name": "fuse@prod"}], "skip_layers": [0]},
        {"average": ["lang", "task"], "weights": [1, 3]},
        {"split": ["lang", "task"], "splits": [2, 3]},
        {"parallel": ["lang", "task"]},
        {"multi_task": ["lang", "task"]},
        [],
    ],
)
def test_every_block_keeps_its_shape_and_options(written):
    spec = made(written).manifest.target
    words = {at(name): name for name in ("lang", "task", "other")} | {at("fuse"): "fuse"}
    wished = parse(written if isinstance(written, list) else _bare(written))
    assert parse(dict(reworded(spec, words).adapters)) == wished


def _bare(written):
    """The same with the selector of the fusion's name left out."""
    if isinstance(written, dict):
        return {key: _bare(value) for key, value in written.items()}
    if isinstance(written, list):
        return [_bare(value) for value in written]
    return written.partition("@")[0] if isinstance(written, str) else written


def test_the_short_form_is_the_same_target():
    assert made("lang+task~klingon") == made({"stack": ["lang", "task"]}, "klingon")
    assert made("task~default").manifest.target.embedding == "default"


def test_one_name_written_twice_is_looked_up_once():
    names = Names()
    target = made({"average": ["lang", "lang"]}, names=names)
    assert names.asked == [("acme", "adapter", "lang")]
    assert len(target.members) == 1


def test_the_vocabulary_that_a_package_was_made_for_is_pinned_too():
    assert made(["swahili", "task"]).manifest.target.embedding == at("klingon", "embedding")
    assert made(["swahili", "finnish"], "default").manifest.target.embedding == "default"
    assert made(["lang"]).manifest.target.embedding is None
    assert refused(["swahili", "finnish"]) == ("contradicting_embeddings", "/embedding")


def test_what_stands_in_the_wrong_place_is_refused_where_it_stands():
    target = made(["lang"]).manifest
    names = Names(whole=target)
    assert refused(["lang", "head"]) == ("wrong_kind", "/adapters/1")
    assert refused({"stack": ["lang", {"parallel": ["task", "fuse"]}]}) == (
        "wrong_kind",
        "/adapters/stack/1/parallel/1",
    )
    assert refused(["lang", "whole"], names=names) == ("wrong_kind", "/adapters/1")
    assert refused("whole", names=names) == ("wrong_kind", "/adapters")
    assert refused({"fuse": ["lang", "task"], "name": "other"}) == ("wrong_kind", "/adapters/name")
    assert refused({"fuse": ["lang", "task", "other"], "name": "fuse"}) == ("wrong_fusion", "/adapters/name")
    assert refused({"stack": [{"fuse": ["lang", "task"]}]}) == ("missing_fusion", "/adapters/stack/0/name")
    assert refused(["lang"], head="lang") == ("no_head", "/head")


def test_unknown_names_are_not_found_where_they_stand():
    assert refused({"average": ["lang", "nobody@3"]}) == ("adapter_not_found", "/adapters/average/1")
    assert refused(["lang"], "lang") == ("embedding_not_found", "/embedding")
    assert refused("lang~nothing") == ("embedding_not_found", "/adapters")
    assert refused(["lang"], head="nobody") == ("adapter_not_found", "/head")


def test_what_is_no_composition_is_refused():
    assert refused({"stack": ["lang"], "x": 1})[0] == "invalid_composition"
    assert refused(["NOT A NAME"])[0] == "invalid_composition"
    assert refused(7)[0] == "invalid_composition"
    assert refused({"stack": ["lang"], "skip_layers": [2]}) == ("invalid_composition", "/adapters/skip_layers")
    assert refused({"stack": [{"parallel": ["lang", "task"]}, {"parallel": ["lang"]}]})[0] == "unsupported_composition"
    assert refused("lang~klingon", "klingon") == ("ambiguous_embedding", "/embedding")
    assert refused(["lang"], head="NOT A NAME") == ("invalid_name", "/head")


def test_the_same_wish_gives_the_same_bytes():
    manifest = made(["lang", "task"], "klingon", "head").manifest
    data = package_bytes(manifest)
    assert data == package_bytes(made({"stack": ["lang@3", "task"]}, "klingon@prod", "head").manifest)
    assert data != package_bytes(made(["task", "lang"], "klingon", "head").manifest)


def test_what_no_request_could_run_is_refused():
    assert refused({"parallel": ["lang", "task"]}, head="head") == ("ambiguous_head", "/head")
    assert refused({"stack": ["lang", {"sum": ["task", "other"]}]}) == ("unsupported_composition", "/adapters/stack/1")
    assert refused({"average": [{"stack": [{"parallel": ["lang", "task"]}]}, "other"]})[0] == "unsupported_composition"
    assert refused(None) == ("missing_adapters", "/adapters")


def test_a_named_head_reads_the_vocabulary_that_the_target_names():
    scores = HeadSpec("masked_lm", 1, "gelu", True, "tokens", (), "vocabulary", vocabulary=31, width=8, norm_eps=1e-12)
    wide = replace(manifest_of("embedding"), embedding=EmbeddingSpec(31, 8, tokenizer=True))
    names = Names(words=Manifest("head", REQUIRES, head=scores))
    names.held["embedding", "wide"] = wide
    assert refused(["lang"], "klingon", "words", names=names) == ("wrong_head", "/head")
    assert refused(["lang"], "default", "words", names=names) == ("wrong_head", "/head")
    assert made(["lang"], "wide", "words", names=names).manifest.target.head == at("words")
    assert made(["lang"], None, "words", names=names).manifest.target.embedding is None  # whatever is active then
