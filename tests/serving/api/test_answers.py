from dataclasses import fields, replace

from adapters.manifest import PROBLEM_TYPES
from adapters.refs import AdapterRef
from adapters.requires import Requires
from serving.api import answers
from serving.registry.records import AuditEntry, NameRecord, Resolved, Version
from serving.tasks.table import TASKS
from tests.serving import fakes


def version(number, problem_type="single_label", kind="adapter"):
    head = fakes.head_spec(("A", "B"), problem_type) if kind == "adapter" else None
    ref = AdapterRef("default", "tone", number, f"sha256:{number:064}")
    return Version(ref, "adapter", fakes.adapter_manifest(head, kind=kind), 10, 1_800_000_000.25, "k1")


def test_times_are_utc_with_milliseconds():
    assert answers.timestamp(0) == "1970-01-01T00:00:00.000Z"
    assert answers.timestamp(1_800_000_000.25) == "2027-01-15T08:00:00.250Z"


def test_the_task_follows_the_head():
    tasks = [answers.version_answer(version(1, kind))["task"] for kind in ("single_label", "multi_label", "token")]
    assert tasks == ["text-classification", "text-classification", "token-classification"]
    without = answers.version_answer(version(1, kind="embedding"))
    assert (without["task"], without["labels"], without["kind"]) == (None, [], "embedding")


def test_every_kind_of_head_leads_to_a_task_that_is_served_or_to_generation():
    assert answers.TASKS.keys() <= set(PROBLEM_TYPES)
    assert set(answers.TASKS.values()) - set(TASKS) == {"text-generation"}
    plain = set(PROBLEM_TYPES) - answers.TASKS.keys()
    assert plain == {"single_label", "multi_label", "regression"}


def test_a_fusion_tells_its_children_and_every_version_what_it_requires():
    held = version(1)
    fusion = replace(held, manifest=replace(held.manifest, kind="fusion", head=None, children=("a", "b")))
    assert answers.version_answer(fusion)["children"] == ["a", "b"]
    assert answers.version_answer(held)["requires"] == {
        "model_type": "bert",
        "hidden_size": 8,
        "layers": 2,
        "heads": 2,
        "embedding": None,
        "encoder_layers": 0,
        "gated": False,
        "averaged": False,
    }


def test_a_name_tells_current_and_selected_versions_apart():
    record = NameRecord("default", "adapter", "tone", (version(1), version(2)), {"b": 2, "prod": 1}, frozenset({2}), 9)
    summary = answers.summary_answer(record)
    assert (summary["versions"], summary["current"]["version"], summary["pinned"]) == ([1, 2], 1, [2])
    whole = answers.name_answer(record, Resolved(version(2), "b"))
    assert (whole["selected"]["version"], whole["resolved_from"], whole["revision"]) == (2, "b", 9)
    assert answers.name_answer(record)["selected"]["version"] == 1


def test_default_is_shown_in_the_same_shape_as_any_other():
    record = NameRecord("default", "embedding", "x", (version(1),), {}, frozenset(), 1)
    assert answers.default_embedding_summary().keys() == answers.summary_answer(record).keys()
    assert answers.default_embedding().keys() == answers.name_answer(record).keys()


def test_a_row_of_the_audit_tells_before_and_after_as_json():
    entry = AuditEntry(
        5.0, "k1", "t", "alias", "tone@prod", "version 2", "adapter", "tone", '{"version":1}', '{"version":2}', "r1", 9
    )
    told = answers.event_answer(entry)
    assert (told["before"], told["after"], told["request_id"], told["sequence"]) == (
        {"version": 1},
        {"version": 2},
        "r1",
        9,
    )
    bare = answers.event_answer(AuditEntry(5.0, "k1", "t", "publish", "tone@1", ""))
    assert (bare["before"], bare["after"], bare["request_id"]) == (None, None, "")


def test_a_version_tells_its_tags_and_its_quarantine():
    ref = AdapterRef("t", "tone", 1, "sha256:" + "a" * 64)
    version = Version(ref, "adapter", fakes.adapter_manifest(), 1, 0.0, "k", {"b": "2", "a": "1"}, "rotten")
    told = answers.version_answer(version)
    assert (list(told["tags"].items()), told["quarantined"]) == ([("a", "1"), ("b", "2")], "rotten")


def test_openapi_names_all_that_a_package_requires():
    assert answers.RequiresAnswer.__annotations__.keys() == {field.name for field in fields(Requires)}
