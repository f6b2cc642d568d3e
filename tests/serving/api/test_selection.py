import asyncio

import pytest

from adapters.manifest import HeadSpec
from serving.api.schemas import PredictRequest
from serving.api.selection import select
from serving.errors import NotFound, NotReady, ServiceError
from tests.serving.samples import PROFILE, adapter_manifest, head_spec


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


def manifest(head: HeadSpec | None = None, **options):
    return adapter_manifest(head, **options)


@pytest.fixture
def shelf(publish):
    publish("lang")
    publish("lang", manifest(), promote=True)  # version 2, without a head
    publish("task", manifest(head_spec()))
    publish("tagger", manifest(head_spec(("O", "X"), "token")))
    publish("head", manifest(head_spec(), kind="head"))
    publish("fused", manifest(kind="fusion"))
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
    assert [(m.version.ref.name, m.version.ref.version) for m in found.members] == [("lang", 2), ("task", 1)]
    assert found.head is not None
    assert found.head.version.ref.name == "task"
    assert found.task.name == "text-classification"


@pytest.mark.usefixtures("shelf")
def test_the_alias_that_led_to_a_version_is_remembered(choose):
    resolved = {text: choose(adapters=text, head="head").members[0] for text in ("lang", "lang@1", "lang@prod")}
    assert {text: (m.version.ref.version, m.resolved_from) for text, m in resolved.items()} == {
        "lang": (2, "prod"),
        "lang@1": (1, None),
        "lang@prod": (2, "prod"),
    }
    digest = resolved["lang@1"].version.ref.digest
    assert choose(adapters=f"lang@{digest}").members[0].version.ref.version == 1


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
        ({"adapters": {"fuse": ["lang", "task"]}}, (422, "unsupported_composition", "/adapters")),
        ({"adapters": ["lang", {"average": ["lang", "task"]}]}, (422, "unsupported_composition", "/adapters/1")),
        (
            {"adapters": {"stack": ["lang", {"sum": ["lang", "task"]}]}},
            (422, "unsupported_composition", "/adapters/stack/1"),
        ),
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
    assert choose(adapters=["lang"], head="head").head_spec == head_spec()
    assert choose(adapters=["task"], head="tagger").task.name == "token-classification"
    assert choose(adapters=[], head="head@1").members == ()


@pytest.mark.usefixtures("shelf")
@pytest.mark.parametrize("body", [{"adapters": []}, {"adapters": "base"}, {"task": "feature-extraction"}], ids=str)
def test_the_bare_backbone_extracts_features(choose, body):
    found = choose(**body)
    assert (found.members, found.head, found.task.name) == ((), None, "feature-extraction")


@pytest.mark.usefixtures("shelf")
def test_features_of_a_stack_use_no_head(choose):
    assert choose(adapters=["task"], task="feature-extraction").head is None
    assert choose(adapters=["lang"], task="feature-extraction").head is None


@pytest.mark.usefixtures("shelf")
def test_skipped_layers_are_kept(choose):
    assert choose(adapters={"stack": ["task"], "skip_layers": [0, 1]}).skip_layers == frozenset({0, 1})


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
    assert choose(adapters=["prompt"]).inserted == 4
    assert choose(adapters=["prompt", "task"]).inserted == 4
    assert choose(adapters=["task", "prompt"]).inserted == 0
    assert choose(adapters=[]).inserted == 0


def test_a_registry_that_is_away_is_no_404(choose, fakes):
    async def away(*_):
        raise NotReady("the registry does not answer", retry_after=2.0)

    fakes.directory.resolve = away
    with pytest.raises(NotReady) as caught:
        choose(adapters=["task"])
    assert caught.value.retry_after == 2.0
    assert caught.value.faults[0].pointer == "/adapters/0"
