import pytest

from adapters.architectures.sites import SiteKind
from adapters.batch.chains import FORKS, SUMMED
from adapters.composition import BLOCKS
from adapters.manifest import Manifest, PartSpec
from adapters.methods.table import JUNCTION, LINEAR
from adapters.methods.table import METHODS as TABLE
from adapters.methods.tuners.table import TUNERS
from adapters.refs import Reference
from serving.api.arranging import FIRST_ONLY, METHODS, check_arrangement
from serving.api.naming import named
from serving.errors import Unprocessable
from tests.serving.registry.given import REQUIRES

ALONE = {
    "biases",
    "maps",
    "word_rows",
    "tables",
    "boft",
    "hra",
    "oft",
    "road",
}  # nothing stands beside their blocks at a map
FOLDED = {tuner.name: "delta" for tuner in TUNERS} | {
    "compacter": "bottleneck",
    "vera": "lora",
    "mtl_lora": "lora",
}  # what their blocks are when rows are planned


def adapter(*methods, **site):
    return Manifest("adapter", REQUIRES, parts=tuple(PartSpec(name, {"sites": {"0/attn_q": site}}) for name in methods))


def refused(raw, **held):
    with pytest.raises(Unprocessable) as caught:
        check_arrangement(named(raw), {Reference(name): manifest for name, manifest in held.items()})
    return caught.value.code, caught.value.faults[0].pointer, caught.value.detail


def allows(kind, method):
    """What the library says of it."""
    folded = FOLDED.get(method, method)
    if method in ALONE:
        return False
    if kind == "sum":
        return folded in SUMMED
    places = [site for site, acting in ((SiteKind.JUNCTION, JUNCTION), (SiteKind.LINEAR, LINEAR)) if folded in acting]
    return any(kind in FORKS[site] for site in places)


def test_the_words_say_what_the_library_does():
    assert {name for name, method in TABLE.items() if method.first_only} == FIRST_ONLY
    for kind in ("fuse", "average", "split", "sum"):
        beside = TABLE.keys() - FIRST_ONLY - {"fusion"}  # a fusion is no adapter
        assert METHODS[BLOCKS[kind]] == {method for method in beside if allows(kind, method)}, kind


@pytest.mark.parametrize(
    ("raw", "methods", "pointer"),
    [
        ({"sum": ["a", "b"]}, ("bottleneck",), "/adapters"),
        ({"split": ["a", "b"], "splits": [1, 2]}, ("lora",), "/adapters"),
        (["a", {"fuse": ["a", ["b"]], "name": "f"}], ("bottleneck", "lora"), "/adapters/1"),
        ({"average": ["a", "b"]}, ("prefix_tuning",), "/adapters"),
    ],
)
def test_what_a_block_can_not_hold_is_refused_at_the_block(raw, methods, pointer):
    code, at, detail = refused(raw, a=adapter("invertible"), b=adapter(*methods))
    assert (code, at) == ("unsupported_composition", pointer)
    assert detail.startswith(f"b is made of {methods[-1]}, of which there is no")


def test_what_dora_stretches_is_added_in_turn_where_the_sum_is_the_whole_composition():
    low, stretched = adapter("lora"), adapter("lora", dora="peft")
    check_arrangement(named({"sum": ["a", "b"]}), {Reference("a"): low, Reference("b"): stretched})
    assert "lora with DoRA" in refused(["a", {"sum": ["a", "b"]}], a=low, b=stretched)[2]
    for raw in ({"sum": ["a", "b"]}, ["a", {"average": ["a", "b"]}], {"parallel": ["a", "b"]}):
        check_arrangement(named(raw), {Reference("a"): low, Reference("b"): low})
    check_arrangement(named({"average": ["a", "b"]}), {Reference("a"): low, Reference("b"): stretched})
