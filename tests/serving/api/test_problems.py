import asyncio
import gc
import json
import weakref

import pytest
from starlette.exceptions import HTTPException

from adapters.errors import InvalidName, Misfit
from serving import errors
from serving.api.problems import Problem, Problems, pointer_of, problem_of
from serving.api.schemas import ProblemAnswer
from serving.errors import Fault
from serving.metrics import GatewayMetrics, render

ALL = sorted(set(errors.REFUSALS.values()), key=lambda cls: (cls.status, cls.__name__))


def body(problem: Problem) -> dict:
    value = json.loads(problem.response("req_1", "/v1/x").body)
    ProblemAnswer.model_validate(value, extra="forbid")
    return value


@pytest.mark.parametrize("kind", ALL, ids=lambda cls: cls.__name__)
def test_every_refusal_of_the_tree_has_its_status_and_code(kind):
    response = problem_of(kind("why", pointer="/adapters/1")).response("req_1", "/v1/x")
    value = json.loads(response.body)
    assert response.status_code == value["status"] == kind.status
    assert response.headers["content-type"] == "application/problem+json"
    assert (value["code"], value["title"], value["detail"]) == (kind.code, kind.title, "why")
    assert value["errors"] == [{"pointer": "/adapters/1", "detail": "why"}]
    assert value["error"]["param"] == "adapters.1"
    assert value["instance"] == "/v1/x#req_1"


def test_the_body_is_what_openai_clients_read():
    kinds = {kind.status: body(problem_of(kind("x")))["error"]["type"] for kind in ALL}
    assert kinds[401] == "authentication_error"
    assert kinds[403] == "permission_error"
    assert kinds[404] == "not_found_error"
    assert kinds[422] == "invalid_request_error"
    assert kinds[429] == "rate_limit_error"
    assert kinds[503] == "server_error"
    assert body(problem_of(errors.NotFound("x")))["error"]["param"] is None


def test_overload_says_when_to_come_back():
    assert problem_of(errors.Overloaded("full", retry_after=0.12)).headers == {
        "retry-after": "1",
        "retry-after-ms": "120",
    }
    assert problem_of(errors.Overloaded("full", retry_after=2.1)).headers["retry-after"] == "3"
    assert problem_of(errors.Overloaded("full")).headers["retry-after"] == "1"
    assert problem_of(errors.NotReady("soon", retry_after=1)).headers["retry-after"] == "1"
    assert problem_of(errors.NotReady("no idea")).headers["retry-after"] == "1"
    assert problem_of(errors.Congested("a long line", retry_after=3.2)).headers["retry-after"] == "4"
    assert problem_of(errors.DeadlineExceeded("too late")).headers == {}


def test_the_body_says_exactly_how_long_to_wait():
    assert body(problem_of(errors.Overloaded("full", retry_after=0.12)))["retry_after"] == 0.12
    assert body(problem_of(errors.NotReady("no idea")))["retry_after"] == 1.0
    assert body(problem_of(errors.NotFound("gone")))["retry_after"] is None


def test_a_million_faults_are_told_as_a_hundred_and_their_number():
    problem = Problem(422, "c", "t", "d", tuple(Fault(f"/{i}", "wrong") for i in range(1_000_000)))
    told = body(problem)["errors"]
    assert [len(told), told[99]["pointer"], told[100]] == [101, "/99", {"pointer": "", "detail": "and 999900 more"}]


def test_a_missing_key_names_the_scheme():
    assert problem_of(errors.Unauthenticated("key?")).headers == {"www-authenticate": "Bearer"}


def test_library_errors_become_refusals():
    problem = problem_of(Misfit(("too wide", "too deep")))
    assert (problem.status, problem.code) == (422, "does_not_fit")
    assert [fault.detail for fault in problem.faults] == ["too wide", "too deep"]
    assert problem_of(InvalidName("bad")).status == 400


def test_unknown_errors_tell_nothing():
    value = body(problem_of(RuntimeError("password=hunter2")))
    assert (value["status"], value["code"]) == (500, "internal_error")
    assert "hunter2" not in json.dumps(value)


def test_the_routers_own_errors_are_problems_too():
    assert problem_of(HTTPException(404)).code == "route_not_found"
    not_allowed = problem_of(HTTPException(405, headers={"allow": "POST"}))
    assert (not_allowed.code, not_allowed.headers) == ("method_not_allowed", {"allow": "POST"})


@pytest.mark.parametrize(
    ("loc", "pointer"),
    [
        (("inputs", "list", 1, "object", "text"), "/inputs/1/text"),
        (("inputs", "list", 0), "/inputs/0"),
        (("parameters", "top_k"), "/parameters/top_k"),
        (("missing",), "/missing"),
        (("inputs", "list", 1, "object", "missing"), "/inputs/1/missing"),
        (("a/b~c",), "/a~1b~0c"),
        ((), ""),
    ],
)
def test_pointers_lead_through_the_body_and_skip_union_tags(loc, pointer):
    value = {"inputs": ["x", {"text": 1}], "parameters": {"top_k": "2"}, "a/b~c": 1}
    assert pointer_of(loc, value) == pointer


def run(app) -> tuple[list[dict], GatewayMetrics]:
    sent: list[dict] = []
    metrics = GatewayMetrics()

    async def send(message):
        sent.append(message)

    async def receive():
        return {"type": "http.request", "body": b"", "more_body": False}

    scope = {"type": "http", "path": "/v1/x", "method": "GET", "headers": [], "state": {"request_id": "req_1"}}
    asyncio.run(Problems(app, metrics)(scope, receive, send))
    return sent, metrics


def test_what_is_raised_is_answered_and_counted():
    async def app(scope, receive, send):
        raise errors.NotFound("gone", code="adapter_not_found")

    sent, metrics = run(app)
    assert sent[0]["status"] == 404
    assert 'chorus_refusals_total{reason="adapter_not_found"} 1.0' in render(metrics.registry)


def test_an_unknown_error_is_logged_with_its_traceback(chorus_log):
    async def app(scope, receive, send):
        raise RuntimeError("the reason")

    sent, _ = run(app)
    assert sent[0]["status"] == 500
    assert b"the reason" not in sent[1]["body"]
    assert "the reason" in chorus_log.text


def test_an_error_after_the_answer_began_cuts_the_connection():
    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise RuntimeError("late")

    with pytest.raises(RuntimeError, match="late"):
        run(app)


def test_an_answered_error_keeps_nothing_of_its_request():
    class Body:
        pass

    held = []

    async def app(_scope, _receive, _send):
        body, error = Body(), errors.Overloaded("full")
        held.append(weakref.ref(body))
        try:
            raise KeyError(body)
        except KeyError as cause:
            ring = (error, body)
            raise ring[0] from cause

    gc.disable()
    try:
        sent, _ = run(app)
        assert sent[0]["status"] == 429
        assert held[0]() is None, "only the collector would find it"
    finally:
        gc.enable()


def test_faults_keep_their_order():
    problem = Problem(422, "c", "t", "d", (Fault("/b", "1"), Fault("/a", "2")))
    assert [fault["pointer"] for fault in body(problem)["errors"]] == ["/b", "/a"]
