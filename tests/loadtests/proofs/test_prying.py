import json
from dataclasses import replace

import pytest

from loadtests.proofs.estates import Estate, Ids
from loadtests.proofs.prying import CREATING, asked, creating, plain, renamed, routes_of, unasked
from serving.api.app import build_app
from tests.serving.fakes import make_fakes

FOREIGN = Ids.of("kkkk", "kkkk", f"sha256:{'ab' * 32}", "0123456789ab")
NOBODY = Ids.of("jjjj", "jjjj", f"sha256:{'cd' * 32}", "ba9876543210")
OWN = Estate(Ids.of("bbbb", "bbbb", f"sha256:{'ef' * 32}", "aaaaaaaaaaaa"), (), b"package", logits=())


@pytest.fixture(scope="module")
def document(tmp_path_factory):
    return build_app(make_fakes(tmp_path_factory.mktemp("fakes")).services).openapi()


@pytest.fixture(scope="module")
def routes(document):
    return routes_of(document)


def everything(routes, ids):
    return [*asked(routes, ids, OWN), *creating(routes, ids, OWN), *plain(routes)]


def test_every_route_of_the_service_is_asked_something(document, routes):
    operations = {item["operationId"] for path in document["paths"].values() for item in path.values()}
    assert len(routes) == len(operations)
    assert {ask.operation for ask in everything(routes, FOREIGN)} == operations


def test_every_route_with_an_id_is_asked_about_a_foreign_one(routes):
    ids = renamed(FOREIGN, NOBODY)
    told = [ask for ask in everything(routes, FOREIGN) if any(text in str((ask.path, ask.body)) for text in ids)]
    with_ids = {route.operation for route in routes if "{" in route.path}
    assert with_ids <= {ask.operation for ask in told}
    assert {"predict_v1_predict_post", "list_keys", "create_key", "audit", "set_active_embedding", "add_embedding"} <= {
        ask.operation for ask in told
    }


def test_the_same_questions_are_asked_of_any_ids_and_differ_in_these_alone(routes):
    def without(ask, ids, instead):
        text = str(ask)
        for old, new in renamed(ids, instead).items():
            text = text.replace(old, new)
        return text

    for make in (asked, creating):
        pairs = list(zip(make(routes, FOREIGN, OWN), make(routes, NOBODY, OWN), strict=True))
        assert all(without(one, FOREIGN, NOBODY) == str(two) for one, two in pairs)
        assert sum(one != two for one, two in pairs) == len(pairs)


def test_a_route_that_is_new_is_not_passed_over_in_silence(document):
    more = json.loads(json.dumps(document))
    more["paths"]["/v1/secrets"] = {"post": {"operationId": "tell_secret"}}
    silent = {route.operation for route in routes_of(more)} - {
        a.operation for a in everything(routes_of(more), FOREIGN)
    }
    assert silent == {"tell_secret"}
    more["paths"] = {"/v1/secrets/{secret}": {"get": {"operationId": "show_secret"}}}
    assert everything(routes_of(more), FOREIGN) == []


def test_a_query_parameter_that_is_new_is_not_passed_over_in_silence(document):
    assert unasked(routes_of(document)) == []
    more = json.loads(json.dumps(document))
    more["paths"]["/v1/keys"]["get"]["parameters"].append({"name": "key", "in": "query"})
    assert unasked(routes_of(more)) == ["list_keys?key"]


def test_somebody_elses_key_is_asked_about_as_its_tenant_too(routes):
    asks = {(ask.operation, ask.path) for ask in asked(routes, FOREIGN, OWN)}
    path = f"/v1/keys/{FOREIGN.key_id}"
    for rest in ("", "?tenant=kkkk"):
        assert {("revoke_key", path + rest), ("rotate_key", f"{path}:rotate{rest}")} <= asks


def test_what_can_be_compared_and_set_is_asked_with_a_state_that_never_was_and_without(routes):
    asks = [ask for ask in asked(routes, FOREIGN, OWN) if ask.operation in ("set_alias_adapter", "set_tags_target")]
    conditions = {(ask.operation, ask.headers.get("If-Match")) for ask in asks}
    assert conditions == {(name, match) for name in ("set_alias_adapter", "set_tags_target") for match in (None, '"0"')}


def test_names_stand_wherever_a_name_may_stand(routes):
    bodies = [json.loads(ask.body) for ask in asked(routes, FOREIGN, OWN) if ask.operation.startswith("predict")]
    written = [json.dumps(body) for body in bodies]
    for place in ('"embedding": "kkkk-e"', '"head": "kkkk-v"', '"name": "kkkk-v"', "@sha256:abab", "@kkkk-a", "kkkk-t"):
        assert any(place in text for text in written), place


def test_what_is_asked_in_the_first_part_makes_nothing(routes):
    changing = [ask for ask in asked(routes, FOREIGN, OWN) if ask.method in ("PUT", "POST", "DELETE")]
    ids = renamed(FOREIGN, NOBODY)
    assert all(any(text in f"{ask.path} {ask.body!r}" for text in ids) for ask in changing)
    assert not any(ask.operation.startswith("publish") for ask in changing)
    assert {ask.operation for ask in creating(routes, FOREIGN, OWN)} == set(CREATING)


def test_ids_are_written_for_one_another_the_longest_first():
    assert renamed(FOREIGN, NOBODY)["kkkk"] == "jjjj"
    lengths = [len(text) for text in renamed(FOREIGN, NOBODY)]
    assert lengths == sorted(lengths, reverse=True)
    assert renamed(FOREIGN, replace(FOREIGN, key_id="x")) == {FOREIGN.key_id: "x"}
