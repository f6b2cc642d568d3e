import asyncio
from dataclasses import replace

import pytest

from adapters.composition import Fuse, Leaf, Stack
from adapters.manifest import HeadSpec
from serving.api.schemas import PredictRequest
from serving.api.selection import select
from serving.errors import NotFound, NotReady, ServiceError, Unprocessable
from tests.serving.samples import (
    PROFILE,
    adapter_manifest,
    fusion_manifest,
    head_of,
    head_spec,
    stack,
    target_manifest,
)


@pytest.fixture
def choose(fakes):
    def run(tenant: str = "default", **request):
        body = PredictRequest.model_validate({"inputs": "i", **request})
        return asyncio.run(select(body, tenant, fakes.directory, PROFILE.geometry))

    return run


@pytest.fixture
def refusal(choose):
    def run(**request) -> tuple[int, str, str]:
        with pytest.raises(ServiceError) as caught:
            choose(**request)
        return caught.value.status, caught.value.code, caught.value.faults[0].pointer

    return run


def branch(found):
    ((only,),) = found.branches
    return only


def manifest(head: HeadSpec | None = None, **options):
    return adapter_manifest(head, **options)


@pytest.fixture
def shelf(publish):
    publish("lang")
    publish("lang", manifest(), promote=True)  # version 2, without a head
    publish("task", manifest(head_spec()))
    publish("tagger", manifest(head_spec(("O", "X"), "token")))
    publish("head", manifest(head_spec(), kind="head"))
    publish("stars", manifest(head_spec(("stars",), "regression")))
    publish("fused", fusion_manifest("lang", "task"))
    publish("whole", target_manifest({"stack": ["lang@2", "task"]}))
    publish("klingon", manifest(kind="embedding"), space="embedding")
    publish("sindarin", manifest(kind="embedding"), space="embedding")
    publish("hers", tenant="other")
    publish("theirs", manifest(kind="embedding"), tenant="other", space="embedding")


@pytest.mark.parametrize(
    "adapters",
    ["lang@prod+task", ["lang@prod", "task"], {"stack": ["lang@prod", "task"]}, ["lang@2", "task@1"]],
    ids=str,
)
@pytest.mark.usefixtures("shelf")
def test_every_spelling_of_a_stack_pins_the_same_versions(choose, adapters):
    found = choose(adapters=adapters)
    assert [(a.version.ref.name, a.version.ref.version) for a in found.adapters] == [("lang", 2), ("task", 1)]
    ((branch,),) = found.branches
    assert branch.composition == stack(*(a.version.ref for a in found.adapters))
    assert branch.head == found.adapters[1]
    assert branch.task.name == "text-classification"


@pytest.mark.usefixtures("shelf")
def test_the_alias_that_led_to_a_version_is_remembered(choose):
    resolved = {text: choose(adapters=text, head="head").adapters[0] for text in ("lang", "lang@1", "lang@prod")}
    assert {text: (m.version.ref.version, m.resolved_from) for text, m in resolved.items()} == {
        "lang": (2, "prod"),
        "lang@1": (1, None),
        "lang@prod": (2, "prod"),
    }
    digest = resolved["lang@1"].version.ref.digest
    assert choose(adapters=f"lang@{digest}").adapters[0].version.ref.version == 1


@pytest.mark.usefixtures("shelf")
@pytest.mark.parametrize(
    ("request_body", "refused"),
    [
        ({}, (422, "missing_adapters", "/adapters")),
        ({"adapters": None}, (422, "missing_adapters", "/adapters")),
        ({"task": "text-classification"}, (422, "missing_adapters", "/adapters")),
        ({"adapters": ["lang"]}, (422, "no_head", "/head")),
        ({"adapters": ["task", "lang"]}, (422, "no_head", "/head")),
        ({"adapters": [], "task": "token-classification"}, (422, "no_head", "/head")),
        ({"adapters": ["task"], "head": "lang"}, (422, "no_head", "/head")),
        ({"adapters": ["task"], "head": "nope"}, (404, "adapter_not_found", "/head")),
        ({"adapters": ["task"], "head": "NO"}, (422, "invalid_name", "/head")),
        ({"adapters": ["task"], "task": "token-classification"}, (422, "wrong_task", "/task")),
        ({"adapters": ["tagger"], "task": "text-classification"}, (422, "wrong_task", "/task")),
        ({"adapters": ["task"], "head": "head", "task": "feature-extraction"}, (422, "wrong_task", "/head")),
        ({"adapters": ["lang", "nope"]}, (404, "adapter_not_found", "/adapters/1")),
        ({"adapters": {"stack": ["lang", "nope"]}}, (404, "adapter_not_found", "/adapters/stack/1")),
        ({"adapters": "lang+nope"}, (404, "adapter_not_found", "/adapters")),
        ({"adapters": ["task@9"]}, (404, "adapter_not_found", "/adapters/0")),
        ({"adapters": ["task@staging"]}, (404, "adapter_not_found", "/adapters/0")),
        ({"adapters": ["hers"]}, (404, "adapter_not_found", "/adapters/0")),
        ({"adapters": ["task"], "head": "hers"}, (404, "adapter_not_found", "/head")),
        ({"adapters": ["task"], "embedding": "theirs"}, (404, "embedding_not_found", "/embedding")),
        ({"adapters": "task~theirs"}, (404, "embedding_not_found", "/adapters")),
        ({"adapters": ["klingon"]}, (404, "adapter_not_found", "/adapters/0")),
        ({"adapters": ["head"]}, (422, "wrong_kind", "/adapters/0")),
        ({"adapters": ["lang", "fused"]}, (422, "wrong_kind", "/adapters/1")),
        ({"adapters": ["Bad Name"]}, (422, "invalid_composition", "/adapters/0")),
        ({"adapters": ["base"]}, (422, "invalid_composition", "/adapters/0")),
        ({"adapters": "task+"}, (422, "invalid_composition", "/adapters")),
        ({"adapters": 7}, (422, "invalid_composition", "/adapters")),
        ({"adapters": ["task", 7]}, (422, "invalid_composition", "/adapters/1")),
        ({"adapters": {"fuse": ["lang", "task"]}}, (422, "missing_fusion", "/adapters/name")),
        ({"adapters": ["lang", {"fuse": ["lang", "task"]}]}, (422, "missing_fusion", "/adapters/1/name")),
        ({"adapters": {"fuse": ["lang", "task"], "name": "nope"}}, (404, "adapter_not_found", "/adapters/name")),
        ({"adapters": {"fuse": ["lang", "task"], "name": "lang"}}, (422, "wrong_kind", "/adapters/name")),
        ({"adapters": {"fuse": ["lang"], "name": "fused"}}, (422, "wrong_fusion", "/adapters/name")),
        ({"adapters": {"fuse": ["lang", "hers"], "name": "fused"}}, (404, "adapter_not_found", "/adapters/fuse/1")),
        ({"adapters": ["lang", {"average": ["lang", "nope"]}]}, (404, "adapter_not_found", "/adapters/1/average/1")),
        ({"adapters": {"parallel": ["task", "lang"]}}, (422, "no_head", "/adapters")),
        ({"adapters": {"parallel": ["task", "tagger"]}, "head": "head"}, (422, "ambiguous_head", "/head")),
        (
            {"adapters": {"parallel": ["task", "tagger"]}, "task": "text-classification"},
            (422, "wrong_task", "/task"),
        ),
        (
            {"adapters": [{"average": [["lang", {"parallel": ["task", "tagger"]}], "task"]}]},
            (422, "unsupported_composition", "/adapters/0/average/0/1"),
        ),
        (
            {"adapters": [{"parallel": ["task", "lang"]}, {"parallel": ["task", "lang", "task"]}]},
            (422, "unsupported_composition", "/adapters"),
        ),
        ({"adapters": ["lang", "whole"]}, (422, "wrong_kind", "/adapters/1")),
        ({"adapters": {"stack": ["whole"], "skip_layers": [0]}}, (422, "wrong_kind", "/adapters/stack/0")),
        ({"adapters": {"multi_task": ["task", "stars"]}}, (422, "invalid_value", "/parameters/task_ids")),
        ({"adapters": ["task"], "parameters": {"task_ids": [0]}}, (422, "wrong_parameter", "/parameters/task_ids")),
        ({"adapters": {"stack": ["task"], "skip_layers": [2]}}, (422, "invalid_composition", "/adapters/skip_layers")),
        ({"adapters": "task~klingon", "embedding": "klingon"}, (422, "ambiguous_embedding", "/embedding")),
    ],
    ids=str,
)
def test_what_can_not_run_is_refused_with_a_pointer(refusal, request_body, refused):
    assert refusal(**request_body) == refused


@pytest.mark.usefixtures("shelf")
def test_a_foreign_name_is_refused_word_for_word_like_an_absent_one(choose):
    details = []
    for name in ("hers", "none"):
        with pytest.raises(NotFound) as caught:
            choose(adapters=[name])
        details.append(caught.value.detail.replace(name, "X"))
    assert details[0] == details[1]


@pytest.mark.usefixtures("shelf")
def test_a_named_head_answers_for_a_stack_without_one(choose):
    assert branch(choose(adapters=["lang"], head="head")).head_spec == head_spec()
    assert branch(choose(adapters=["task"], head="tagger")).task.name == "token-classification"
    assert choose(adapters=[], head="head@1").adapters == ()


@pytest.mark.usefixtures("shelf")
@pytest.mark.parametrize("body", [{"adapters": []}, {"adapters": "base"}, {"task": "feature-extraction"}], ids=str)
def test_the_bare_backbone_extracts_features(choose, body):
    found = choose(**body)
    assert (found.adapters, branch(found).head, branch(found).task.name) == ((), None, "feature-extraction")


@pytest.mark.usefixtures("shelf")
def test_features_of_a_stack_use_no_head(choose):
    for task in ("feature-extraction", "sentence-embedding"):
        for name in ("task", "lang"):
            found = branch(choose(adapters=[name], task=task))
            assert (found.head, found.task.name) == (None, task)


@pytest.mark.usefixtures("shelf")
def test_skipped_layers_are_kept(choose):
    found = branch(choose(adapters={"stack": ["task"], "skip_layers": [0, 1]}))
    assert found.composition.skip_layers == frozenset({0, 1})


@pytest.mark.usefixtures("shelf")
def test_the_vocabulary_is_explicit_then_the_manifests_then_the_active_then_the_backbones(choose, publish, fakes):
    publish("kl", manifest(head_spec(), embedding="klingon"))

    def vocabulary(**body) -> str | None:
        found = choose(**body).embedding
        return None if found is None else found.version.ref.name

    assert vocabulary(adapters=["task"]) is None
    assert vocabulary(adapters=["kl"]) == "klingon"
    fakes.directory.active["default"] = "sindarin"
    assert vocabulary(adapters=["task"]) == "sindarin"
    assert vocabulary(adapters=["kl"]) == "klingon"
    assert vocabulary(adapters=["kl"], embedding="sindarin@1") == "sindarin"
    assert vocabulary(adapters="kl~sindarin") == "sindarin"
    assert vocabulary(adapters=["kl"], embedding="default") is None
    assert vocabulary(adapters=["task"], embedding="default") is None
    assert vocabulary(adapters="base~klingon") == "klingon"


@pytest.mark.usefixtures("shelf")
def test_contradicting_vocabularies_need_an_explicit_one(choose, publish, refusal):
    publish("kl", manifest(embedding="klingon"))
    publish("si", manifest(head_spec(), embedding="sindarin"))
    assert refusal(adapters=["kl", "si"]) == (422, "contradicting_embeddings", "/embedding")
    assert choose(adapters=["kl", "si"], embedding="klingon").embedding is not None
    publish("gone", manifest(head_spec(), embedding="quenya"))
    assert refusal(adapters=["gone"]) == (404, "embedding_not_found", "/adapters")


@pytest.mark.usefixtures("shelf")
def test_only_the_first_members_prompt_takes_room(choose, publish):
    prompt = {"length": 4, "at": "prefix"}
    publish("prompt", manifest(head_spec(), method="prompt_tuning", config=prompt))
    lengths = {
        text: branch(choose(adapters=adapters)).inserted
        for text, adapters in {
            "alone": ["prompt"],
            "below": ["prompt", "task"],
            "above": ["task", "prompt"],
            "first arm": [{"average": ["prompt", "task"]}],
            "second arm": [{"average": ["task", "prompt"]}],
            "none": [],
        }.items()
    }
    assert lengths == {"alone": 4, "below": 4, "above": 0, "first arm": 4, "second arm": 0, "none": 0}


@pytest.mark.usefixtures("shelf")
def test_a_past_takes_positions_and_puts_nothing_in(choose, publish):
    publish("past", manifest(head_spec(), method="past_prefix", config={"length": 4, "segments": True}))
    found = branch(choose(adapters=["past", "task"]))
    assert (found.inserted, found.shifted) == (0, 4)
    assert branch(choose(adapters=["task", "past"])).shifted == 0


@pytest.mark.usefixtures("shelf")
def test_replicated_layers_count_as_often_as_they_run(choose, publish):
    plain = manifest(head_spec())
    publish("deep", replace(plain, route=(0, *range(plain.requires.layers), 0)))
    visits = {name: branch(choose(adapters=[name])).visits for name in ("deep", "task")}
    assert visits == {"deep": (plain.requires.layers + 2) / plain.requires.layers, "task": 1.0}


def test_a_registry_that_is_away_is_no_404(choose, fakes):
    async def away(*_):
        raise NotReady("the registry does not answer", retry_after=2.0)

    fakes.directory.resolve = away
    with pytest.raises(NotReady) as caught:
        choose(adapters=["task"])
    assert caught.value.retry_after == 2.0
    assert caught.value.faults[0].pointer == "/adapters/0"


@pytest.mark.usefixtures("shelf")
def test_every_block_is_pinned_in_its_place(choose):
    found = choose(adapters=["lang", {"fuse": ["lang", ["lang@1", "task"]], "name": "fused"}])
    lang, first, task, fused = (package.version.ref for package in found.adapters)
    assert [ref.name for ref in (lang, first, task, fused)] == ["lang", "lang", "task", "fused"]
    assert (lang.version, first.version) == (2, 1)
    assert branch(found).composition.block == Stack(
        (Leaf(lang), Fuse((Leaf(lang), Stack((Leaf(first), Leaf(task)))), fused))
    )
    assert branch(found).head is not None  # that of the last adapter
    averaged = choose(adapters=[{"average": ["lang", "task"], "weights": [1, 3]}])
    assert branch(averaged).composition.block.children[0].weights == (1.0, 3.0)


@pytest.mark.usefixtures("shelf")
def test_every_branch_of_parallel_has_its_own_head_and_task(choose):
    found = choose(adapters=["lang", {"parallel": ["task", ["lang@1", "tagger"]]}])
    (first, second), *others = found.branches
    assert others == []
    assert found.parallel
    assert [b.head.version.ref.name for b in (first, second)] == ["task", "tagger"]
    assert [b.task.name for b in (first, second)] == ["text-classification", "token-classification"]
    assert [len(b.composition.block.children) for b in (first, second)] == [2, 3]
    assert [head.version.ref.name for head in found.heads] == ["task", "tagger"]
    features = choose(adapters={"parallel": ["lang", "task"]}, task="feature-extraction")
    assert [b.head for b in features.branches[0]] == [None, None]


@pytest.mark.usefixtures("shelf")
@pytest.mark.parametrize("ids", [[0, 1, 0], ["task", "stars", "task@1"], ["task", 1, 0]], ids=str)
def test_task_ids_are_numbers_or_names(choose, ids):
    adapters = ["lang", {"multi_task": ["task@1", ["lang@1", "stars"]]}]
    found = choose(inputs=["i"] * 3, adapters=adapters, parameters={"task_ids": ids})
    assert found.task_ids == (0, 1, 0)
    assert [found.of(i)[0].head.version.ref.name for i in range(3)] == ["task", "stars", "task"]
    assert [package.version.ref.name for package in found.adapters] == ["lang", "task", "lang", "stars"]


@pytest.mark.usefixtures("shelf")
def test_adapters_of_tasks_that_no_input_asks_for_do_not_run(choose):
    found = choose(adapters={"multi_task": ["task", "stars"]}, parameters={"task_ids": [1]})
    assert [package.version.ref.name for package in found.packages] == ["stars"]
    headed = choose(adapters={"multi_task": ["lang", "lang@1"]}, head="head", parameters={"task_ids": [0]})
    assert [head.version.ref.name for head in headed.heads] == ["head"]


@pytest.mark.usefixtures("shelf")
@pytest.mark.parametrize(
    ("ids", "pointer"),
    [([0], ""), ([0, 0, 0], ""), ([0, 2], "/1"), ([-1, 0], "/0"), (["nope", 0], "/0"), (["lang", 0], "/0")],
    ids=str,
)
def test_task_ids_that_do_not_fit_are_refused(refusal, ids, pointer):
    body = {"inputs": ["i", "i"], "adapters": {"multi_task": ["lang@1", "task", "lang@2"][: 2 + ("lang" in ids)]}}
    assert refusal(**body, parameters={"task_ids": ids}, head="head") == (
        422,
        "invalid_value",
        f"/parameters/task_ids{pointer}",
    )


@pytest.mark.usefixtures("shelf")
def test_a_head_that_only_generates_is_refused_and_its_adapter_still_has_states(choose, refusal, publish):
    publish("poet", manifest(head_of("causal_lm")))
    assert refusal(adapters=["poet"]) == (422, "wrong_task", "/head")
    assert refusal(adapters=["poet"], task="fill-mask") == (422, "wrong_task", "/head")
    assert branch(choose(adapters=["poet"], task="feature-extraction")).task.name == "feature-extraction"


@pytest.mark.usefixtures("shelf")
def test_inputs_of_one_request_are_of_one_task(choose, refusal):
    body = {"inputs": ["i", "i"], "adapters": {"multi_task": ["task", "tagger"]}}
    assert refusal(**body, parameters={"task_ids": [0, 1]}) == (422, "wrong_task", "/parameters/task_ids")
    assert choose(**body, parameters={"task_ids": [1, 1]}).tasks[0].name == "token-classification"


@pytest.mark.usefixtures("shelf")
@pytest.mark.parametrize("spelling", ["whole", ["whole"], {"stack": ["whole@1"]}], ids=str)
def test_a_target_stands_for_its_composition(choose, spelling):
    found = choose(adapters=spelling)
    assert [(a.version.ref.name, a.version.ref.version) for a in found.adapters] == [("lang", 2), ("task", 1)]
    assert found.target is not None
    assert found.target.version.ref.name == "whole"
    assert choose(adapters=["task"]).target is None


@pytest.mark.usefixtures("shelf")
def test_a_targets_head_and_vocabulary_give_way_to_explicit_ones(choose, publish, refusal):
    publish("full", target_manifest({"stack": ["lang"]}, embedding="klingon", head="head"))
    found = choose(adapters="full")
    assert branch(found).head.version.ref.name == "head"
    assert found.embedding.version.ref.name == "klingon"
    assert branch(choose(adapters="full", head="tagger")).head.version.ref.name == "tagger"
    for body in ({"adapters": "full~sindarin"}, {"adapters": "full", "embedding": "sindarin"}):
        assert choose(**body).embedding.version.ref.name == "sindarin"
    assert choose(adapters="full", embedding="default").embedding is None
    assert branch(choose(adapters="full", task="feature-extraction")).head is None
    publish("stale", target_manifest({"stack": ["lang@9"]}))
    assert refusal(adapters="stale") == (404, "adapter_not_found", "/adapters")


@pytest.mark.usefixtures("shelf")
def test_a_head_over_another_vocabulary_is_refused(choose, publish, refusal):
    publish("filler", manifest(head_of("masked_lm")))
    publish("small", manifest(head_of("masked_lm", vocabulary=16)))
    assert branch(choose(adapters=["filler"])).task.name == "fill-mask"
    assert refusal(adapters=["small"]) == (422, "wrong_head", "/head")
    assert refusal(adapters=["filler"], embedding="klingon") == (422, "wrong_head", "/head")
    assert choose(adapters=["small"], embedding="klingon").embedding is not None


@pytest.mark.usefixtures("shelf")
@pytest.mark.parametrize("task", [None, "text-classification"])
@pytest.mark.parametrize(
    ("adapters", "remedy"),
    [([{"parallel": ["task", "lang"]}], "end every branch with an adapter"), (["lang"], "name one as `head`")],
    ids=str,
)
def test_a_remedy_for_a_missing_head_can_be_taken(choose, adapters, remedy, task):
    with pytest.raises(Unprocessable, match=remedy):
        choose(adapters=adapters, task=task)
