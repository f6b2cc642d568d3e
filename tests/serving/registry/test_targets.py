import sys
from subprocess import run

from adapters.formats import native
from adapters.manifest import Manifest, TargetSpec, from_json, to_json
from adapters.refs import AdapterRef
from adapters.weights import Package
from serving.registry.records import Resolved, Version
from serving.registry.targets import members_of, package_bytes, pinned, reworded
from tests.serving.registry.given import REQUIRES, digest_of, manifest_of

FUSED = {
    "stack": ["lang@3", {"fuse": ["task", {"stack": ["other", "lang@3"]}], "name": "fuse@prod"}],
    "skip_layers": [1],
}


def test_members_are_listed_with_their_roles_in_the_order_written():
    spec = TargetSpec(FUSED, "klingon", "task")
    assert [(role, space, str(reference)) for role, space, reference in members_of(spec)] == [
        ("adapter", "adapter", "lang@3"),
        ("adapter", "adapter", "task"),
        ("adapter", "adapter", "other"),
        ("fusion", "adapter", "fuse@prod"),
        ("head", "adapter", "task"),
        ("embedding", "embedding", "klingon"),
    ]
    assert [role for role, *_ in members_of(TargetSpec({"stack": ["lang"]}, "default"))] == ["adapter"]


def test_rewording_replaces_every_reference_and_nothing_else():
    words = {"lang@3": "a", "task": "b", "other": "c", "fuse@prod": "d", "klingon": "e"}
    inner = {"fuse": ["b", {"stack": ["c", "a"]}], "name": "d"}
    assert reworded(TargetSpec(FUSED, "klingon", "task"), words) == TargetSpec(
        {"stack": ["a", inner], "skip_layers": [1]}, "e", "b"
    )
    weighted = {"average": ["task", "other"], "weights": [1.0, 3.0]}
    assert reworded(TargetSpec(weighted, "default"), words) == TargetSpec(
        {"average": ["b", "c"], "weights": [1.0, 3.0]}, "default"
    )


def test_the_stored_package_is_a_native_one():
    manifest = Manifest("target", REQUIRES, target=TargetSpec(FUSED, "klingon", "task"))
    data = package_bytes(manifest)
    assert data == native.write(Package(manifest, {}))
    assert native.read(data).manifest == from_json(to_json(manifest)) == manifest


def test_a_pinned_reference_is_a_name_and_a_digest():
    digest = digest_of(b"lang")
    version = Version(AdapterRef("acme", "lang", 3, digest), "adapter", manifest_of("adapter"), 1, 0.0, "key1")
    assert pinned(Resolved(version, "prod")) == f"lang@{digest}"


def test_reading_targets_needs_neither_sql_nor_torch():
    code = (
        "import sys; import serving.registry.targets; print([m for m in ('torch', 'sqlalchemy') if m in sys.modules])"
    )
    assert run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
