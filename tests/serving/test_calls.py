import httpx2
import pytest
from opentelemetry.sdk.trace import TracerProvider

from serving.calls import Calls, refusal_of
from serving.errors import (
    Conflict,
    EngineFailed,
    NotFound,
    NotReady,
    Overloaded,
    PreconditionFailed,
    ServiceError,
    Unprocessable,
)

OK = httpx2.Response(200, json={"done": True})
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Script:
    """Answers in order; an exception is raised in place of an answer. Notes what was asked and how long was waited."""

    def __init__(self, *steps):
        self.steps = list(steps)
        self.requests = []
        self.waits = []

    def __call__(self, request):
        request.read()
        self.requests.append(request)
        step = self.steps.pop(0)
        if isinstance(step, Exception):
            raise step
        return step

    def calls(self, **options):
        transport = httpx2.MockTransport(self)
        return Calls("http://127.0.0.1:1", "ck_x", timeout_s=5, transport=transport, sleep=self.waits.append, **options)


def problem(status, code="some_code", headers=None, **members):
    body = {"detail": "it is so", "code": code, "errors": [{"pointer": "/a/0", "detail": "here"}], **members}
    return httpx2.Response(status, json=body, headers=headers)


def test_a_call_carries_the_key_and_its_body():
    script = Script(OK)
    assert script.calls().json("POST", "/v1/x", body={"a": 1}) == {"done": True}
    (request,) = script.requests
    assert request.headers["authorization"] == "Bearer ck_x"
    assert request.content == b'{"a":1}'


def test_a_call_belongs_to_the_callers_span_every_time_it_is_sent():
    script = Script(httpx2.Response(503, headers={"retry-after": "1"}), OK, OK, OK, OK)
    calls = script.calls()
    calls.json("GET", "/v1/x", headers={"a": "b"})
    with TracerProvider().get_tracer("shop").start_as_current_span("buy") as live:
        found = live.get_span_context()
        inside = f"00-{found.trace_id:032x}-{found.span_id:016x}-{found.trace_flags:02x}"
        calls.json("GET", "/v1/x", headers={"a": "b"})
        with calls.download("/v1/x"):
            pass
        calls.json("GET", "/v1/x", headers={"traceparent": PARENT})
    told = [request.headers.get("traceparent") for request in script.requests]
    assert told == [None, None, inside, inside, PARENT]
    assert [request.headers.get("a") for request in script.requests] == ["b", "b", "b", None, None]


def test_an_empty_answer_is_none():
    assert Script(httpx2.Response(204)).calls().json("DELETE", "/v1/x") is None


@pytest.mark.parametrize(
    ("status", "kind"), [(404, NotFound), (409, Conflict), (412, PreconditionFailed), (422, Unprocessable)]
)
def test_a_problem_is_raised_as_the_error_that_the_server_raised(status, kind):
    script = Script(problem(status, request_id="req_7"))
    with pytest.raises(kind) as caught:
        script.calls().json("GET", "/v1/x")
    assert (caught.value.code, caught.value.detail) == ("some_code", "it is so")
    assert [(fault.pointer, fault.detail) for fault in caught.value.faults] == [("/a/0", "here")]
    assert caught.value.__notes__ == ["request req_7"]


def test_a_500_is_the_engines_or_nobodys():
    assert type(refusal_of(problem(500, "engine_failed"))) is EngineFailed
    assert type(refusal_of(problem(500, "internal_error"))) is ServiceError


@pytest.mark.parametrize("content", [b"", b"<html>bad gateway</html>", b"[1]", b'{"errors": "x", "detail": 4}'])
def test_what_a_proxy_says_is_an_error_too(content):
    refusal = refusal_of(httpx2.Response(502, content=content))
    assert isinstance(refusal, NotReady)
    assert str(refusal)


def test_overload_is_waited_out_as_long_as_the_server_says():
    script = Script(
        problem(429, headers={"retry-after": "2"}),
        problem(503, headers={"retry-after": "1", "retry-after-ms": "250"}),
        OK,
    )
    assert script.calls().json("GET", "/v1/x") == {"done": True}
    assert script.waits == [2.0, 0.25]


def test_the_last_refusal_is_raised():
    script = Script(*[problem(429, headers={"retry-after": "1"})] * 3)
    with pytest.raises(Overloaded) as caught:
        script.calls().json("GET", "/v1/x")
    assert caught.value.retry_after == 1.0
    assert len(script.requests) == 3
    assert script.waits == [1.0, 1.0]


def test_a_wait_that_is_too_long_is_left_to_the_caller():
    script = Script(problem(429, headers={"retry-after": "60"}))
    with pytest.raises(Overloaded):
        script.calls(longest_wait_s=10).json("GET", "/v1/x")
    assert script.waits == []


def test_a_call_that_may_not_be_sent_twice_is_sent_once():
    for step in (problem(429), problem(503), httpx2.ReadError("gone")):
        script = Script(step)
        with pytest.raises((Overloaded, NotReady)):
            script.calls().json("POST", "/v1/keys", body={})
        assert len(script.requests) == 1


def test_a_lost_connection_is_tried_again_with_the_whole_body():
    script = Script(httpx2.RemoteProtocolError("gone"), httpx2.ReadError("gone"), OK)
    response = script.calls().send("PUT", "/v1/x", content=lambda: iter([b"one", b"two"]))
    assert response.status_code == 200
    assert [request.content for request in script.requests] == [b"onetwo"] * 3
    assert script.waits == [0.2, 0.4]


@pytest.mark.parametrize("error", [httpx2.ConnectError("refused"), httpx2.ReadTimeout("slow")])
def test_a_service_that_does_not_answer_is_named_and_not_asked_again(error):
    script = Script(error)
    with pytest.raises(NotReady) as caught:
        script.calls().json("GET", "/v1/x")
    assert caught.value.code == "unreachable"
    assert "http://127.0.0.1:1" in str(caught.value)
    assert len(script.requests) == 1


def test_other_refusals_are_not_tried_again():
    script = Script(problem(504, "deadline_exceeded"))
    with pytest.raises(ServiceError):
        script.calls().json("GET", "/v1/x")
    assert len(script.requests) == 1


def test_a_download_raises_the_refusal_before_a_byte_is_given():
    script = Script(problem(404))
    with pytest.raises(NotFound), script.calls().download("/v1/x"):
        pass
    with Script(httpx2.Response(200, content=b"abc")).calls().download("/v1/x") as chunks:
        assert b"".join(chunks) == b"abc"
