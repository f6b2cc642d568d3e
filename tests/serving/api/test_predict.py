import asyncio
import itertools
import json
import threading

import pytest

import serving.api.predict
from serving.api.app import build_app
from serving.api.predict import Predictor
from serving.api.schemas import PredictAnswer, PredictRequest
from serving.errors import DeadlineExceeded, Overloaded
from serving.registry.records import Quota
from serving.request import Refusal
from tests.serving.samples import PROFILE, adapter_manifest, head_of, head_spec


@pytest.fixture
def predict(client, publish):
    publish("sentiment", promote=True)
    publish("tagger", adapter_manifest(head_spec(("O", "X"), "token")))
    publish("stars", adapter_manifest(head_spec(("stars",), "regression")))

    def post(inputs="i love it", adapters="sentiment", **body):
        return client.post("/v1/predict", json={"inputs": inputs, "adapters": adapters, **body})

    return post


def test_an_answer_has_every_member_of_the_contract(predict):
    response = predict(["i love it", {"text": "i", "text_pair": "you"}])
    assert response.status_code == 200
    answer = response.json()
    PredictAnswer.model_validate(answer, extra="forbid", strict=True)
    assert answer["id"] == response.headers["x-request-id"]
    assert answer["task"] == "text-classification"
    assert answer["target"]["adapters"][0]["resolved_from"] == "prod"
    assert answer["target"]["head"] == "sentiment"
    assert answer["usage"] == {"prompt_tokens": 10, "truncated": [False, False]}
    assert answer["residency"] == {"sentiment": "device"}
    assert answer["replica"] == "engine-1"
    assert set(answer["timing_ms"]) == {"queue", "load", "tokenize", "forward", "total"}
    for scores in answer["outputs"]:
        assert [score["label"] for score in scores] in (["NEG", "POS"], ["POS", "NEG"])
        assert scores[0]["score"] >= scores[1]["score"]
        assert sum(score["score"] for score in scores) == pytest.approx(1)


def test_server_timing_is_what_browsers_read(predict):
    parts = predict().headers["server-timing"].split(", ")
    assert [part.split(";dur=")[0] for part in parts] == ["queue", "load", "tokenize", "forward", "total"]


def test_a_clients_own_request_id_is_the_answers_id(client, predict):
    body = {"inputs": "i", "adapters": "sentiment"}
    answer = client.post("/v1/predict", json=body, headers={"x-request-id": "abc"}).json()
    assert answer["id"] == "req_abc"


def test_the_scores_are_those_of_the_rows_logits(predict, fakes):
    raw = predict(["i", "you"], parameters={"function_to_apply": "none", "top_k": None}).json()["outputs"]
    logits = [fakes.submit.output(ticket).tolist() for ticket in fakes.submit.seen]
    assert [[item["score"] for item in row] for row in raw] == logits
    assert [[item["label"] for item in row] for row in raw] == [["NEG", "POS"]] * 2


def test_tags_cover_the_characters_of_the_text(predict):
    text = "I LOVE  café!"
    answer = predict([text], "tagger").json()
    PredictAnswer.model_validate(answer, extra="forbid", strict=True)
    (entities,) = answer["outputs"]
    assert [text[e["start"] : e["end"]] for e in entities] == ["I", "LOVE", "caf", "é", "!"]
    assert [e["index"] for e in entities] == [1, 2, 3, 4, 5]


def test_regression_answers_its_value(predict, fakes):
    ((score,),) = predict("i", "stars").json()["outputs"]
    assert score == {"label": "stars", "score": fakes.submit.output(fakes.submit.seen[-1]).tolist()[0]}


def test_features_are_exact_and_need_no_adapters(client, predict, fakes):
    response = client.post("/v1/predict", json={"inputs": ["i", "i love"], "task": "feature-extraction"})
    answer = response.json()
    assert [len(vectors) for vectors in answer["outputs"]] == [3, 4]
    assert answer["outputs"] == [fakes.submit.output(ticket).tolist() for ticket in fakes.submit.seen]
    assert answer["target"]["adapters"] == []
    stack = predict("i", ["sentiment"], task="feature-extraction").json()
    assert stack["target"]["head"] is None
    assert len(stack["outputs"][0][0]) == PROFILE.geometry.hidden_size


def test_top_k_and_truncate(predict):
    assert len(predict(parameters={"top_k": 1}).json()["outputs"][0]) == 1
    long = predict(["i", "i " * 20], parameters={"truncate": True}).json()
    assert long["usage"] == {"prompt_tokens": 3 + 16, "truncated": [False, True]}


def test_a_stack_over_a_named_vocabulary(predict, publish):
    publish("klingon", adapter_manifest(kind="embedding"), space="embedding")
    answer = predict("i", "sentiment~klingon").json()
    assert answer["target"]["embedding"]["name"] == "klingon"
    assert answer["residency"] == {"sentiment": "device", "klingon": "device"}


@pytest.mark.parametrize(
    ("body", "status", "code", "pointer"),
    [
        ({"inputs": 1}, 422, "invalid_value", "/inputs"),
        ({"inputs": ["i", ["i"]]}, 422, "invalid_value", "/inputs/1"),
        ({"inputs": ["i", {"text": 1}]}, 422, "invalid_value", "/inputs/1/text"),
        ({"inputs": ["i", {"text": "i", "pair": "i"}]}, 422, "invalid_value", "/inputs/1/pair"),
        ({"inputs": [{}]}, 422, "invalid_value", "/inputs/0/text"),
        ({"task": "summarization"}, 422, "invalid_value", "/task"),
        ({"task": "fill-mask"}, 422, "wrong_task", "/task"),
        ({"inputs": {"question": "i"}}, 422, "invalid_value", "/inputs/context"),
        ({"inputs": ["i", {"words": []}]}, 422, "invalid_value", "/inputs/1/words"),
        ({"inputs": ["i", {"choices": ["i"]}]}, 422, "invalid_value", "/inputs/1/text"),
        ({"inputs": ["i", {"question": "i", "context": "i"}]}, 422, "wrong_input", "/inputs/1"),
        ({"parameters": {"top_k": "1"}}, 422, "invalid_value", "/parameters/top_k"),
        ({"parameters": {"temperature": 1}}, 422, "invalid_value", "/parameters/temperature"),
        ({"model": "x"}, 422, "invalid_value", "/model"),
        ({"timeout_ms": 0}, 422, "invalid_value", "/timeout_ms"),
        ({"timeout_ms": 10**9}, 422, "invalid_value", "/timeout_ms"),
        ({"inputs": []}, 422, "no_inputs", "/inputs"),
        ({"inputs": ["i"] * 257}, 413, "too_many_inputs", "/inputs"),
        ({"inputs": ["i", "i " * 20]}, 422, "too_long", "/inputs/1"),
        ({"inputs": "x" * 100_001}, 422, "too_long", "/inputs"),
        ({"adapters": ["nope"]}, 404, "adapter_not_found", "/adapters/0"),
        ({"adapters": {"fuse": ["a", "b"]}}, 422, "missing_fusion", "/adapters/name"),
        ({"adapters": None}, 422, "missing_adapters", "/adapters"),
        ({"embedding": "nope"}, 404, "embedding_not_found", "/embedding"),
        ({"adapters": ["tagger"], "parameters": {"top_k": 1}}, 422, "wrong_parameter", "/parameters/top_k"),
    ],
    ids=itertools.count(),
)
def test_a_bad_request_is_a_problem_with_a_pointer(client, predict, fakes, body, status, code, pointer):
    response = client.post("/v1/predict", json={"inputs": "i", "adapters": ["sentiment"], **body})
    problem = response.json()
    assert (response.status_code, problem["code"], problem["errors"][0]["pointer"]) == (status, code, pointer)
    assert response.headers["content-type"] == "application/problem+json"
    assert not fakes.submit.seen


@pytest.mark.parametrize("content", [b"", b"{", b"[1", b'{"inputs": NaN}', b'{"inputs": "a", "inputs": "b"}', b"\xff"])
def test_malformed_json_is_a_400(client, content):
    response = client.post("/v1/predict", content=content, headers={"content-type": "application/json"})
    assert (response.status_code, response.json()["code"]) == (400, "malformed_json")


@pytest.mark.parametrize("content", [b"1", b"null", b'"inputs"', b"[]"])
def test_json_that_is_no_object_is_a_422(client, content):
    response = client.post("/v1/predict", content=content, headers={"content-type": "application/json"})
    assert response.status_code == 422


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("adapter_load_failed", 424),
        ("overloaded", 429),
        ("engine_failed", 500),
        ("not_ready", 503),
        ("deadline_exceeded", 504),
        ("unprocessable", 422),
    ],
)
def test_a_refused_row_gives_its_status(predict, fakes, code, status):
    fakes.submit.refuse[1] = Refusal("", code, "because", "engine-1", retry_after=0.5 if status == 429 else None)
    response = predict(["i", "you", "it"])
    problem = response.json()
    assert (response.status_code, problem["code"], problem["detail"]) == (status, code, "because")
    assert problem["errors"] == [{"pointer": "/inputs/1", "detail": "because"}]
    assert response.headers.get("retry-after") == ("1" if status in (429, 503) else None)


def test_overload_before_any_row_ran(predict, fakes):
    fakes.submit.error = Overloaded("4096 rows wait", retry_after=1.5)
    response = predict()
    assert response.status_code == 429
    assert (response.headers["retry-after"], response.headers["retry-after-ms"]) == ("2", "1500")


def test_a_bug_tells_nothing_of_the_inside(predict, fakes, chorus_log):
    fakes.submit.error = RuntimeError("secret path /x/y")
    response = predict("canary")
    assert (response.status_code, response.json()["code"]) == (500, "internal_error")
    assert "secret" not in response.text
    assert "secret path" in chorus_log.text
    assert "canary" not in chorus_log.text
    fakes.submit.error = None
    assert predict().status_code == 200


def test_the_engine_hears_how_much_time_is_left(predict, fakes):
    predict(timeout_ms=500)
    predict()
    assert 0 < fakes.submit.timeouts[0] <= 0.5
    assert 0 < fakes.submit.seen[0].deadline_ms <= 500
    assert 25 < fakes.submit.timeouts[1] <= 30


def test_a_request_whose_time_is_over_is_a_504_and_is_cancelled(predict, fakes):
    cancelled = []

    async def never(tickets, timeout_s):
        try:
            await asyncio.Future()
        finally:
            cancelled.append(len(tickets))

    fakes.submit.submit = never
    response = predict(["i", "you"], timeout_ms=30)
    assert (response.status_code, response.json()["code"]) == (504, "deadline_exceeded")
    assert cancelled == [2]


def test_a_client_that_hangs_up_cancels_its_rows(predict, fakes):
    cancelled = []

    async def scenario():
        sent, body = asyncio.Event(), json.dumps({"inputs": "i", "adapters": "sentiment"}).encode()

        async def never(tickets, timeout_s):
            sent.set()
            try:
                await asyncio.Future()
            finally:
                cancelled.append(tickets[0].id)

        messages = [{"type": "http.request", "body": body, "more_body": False}]

        async def receive():
            if messages:
                return messages.pop()
            await sent.wait()
            return {"type": "http.disconnect"}

        async def send(message):
            pytest.fail(f"answered {message}")

        fakes.submit.submit = never
        headers = [(b"host", b"localhost"), (b"content-type", b"application/json")]
        scope = {"type": "http", "method": "POST", "path": "/v1/predict", "headers": headers, "query_string": b""}
        async with asyncio.timeout(10):  # the request's own limit is 30 s: only the hang-up ends it sooner
            await build_app(fakes.services)(scope, receive, send)

    asyncio.run(scenario())
    assert len(cancelled) == 1
    requests = fakes.services.metrics.registry.get_sample_value
    labels = {"method": "POST", "route": "/v1/predict", "code": "499"}
    assert requests("chorus_http_requests_total", labels) == 1.0


def test_one_tenant_can_not_use_anothers_adapter(client, publish, fakes):
    publish("mine", tenant="acme")
    key = fakes.keyring.add("globex", "predict").secret
    answers = [
        client.post(
            "/v1/predict",
            json={"inputs": "i", "adapters": [name]},
            headers={"authorization": f"Bearer {key}", "x-request-id": "r"},
        )
        for name in ("mine", "none")
    ]
    assert [answer.status_code for answer in answers] == [404, 404]
    assert answers[0].text.replace("mine", "none") == answers[1].text


def test_rows_and_tokens_are_counted(predict, fakes):
    predict(["i", "i love"])
    value = fakes.services.metrics.registry.get_sample_value
    assert value("chorus_gateway_rows_total") == 2
    assert value("chorus_gateway_tokens_total") == 7
    assert value("chorus_tokenize_seconds_count") == 1


def predicted(fakes, step_s, **body):
    """One request by a clock that goes on by `step_s` at every look."""
    clock = itertools.count(100.0, step_s)
    request = PredictRequest.model_validate({"inputs": "i", "adapters": "sentiment", **body})
    return asyncio.run(Predictor(fakes.services, clock=lambda: next(clock)).predict(request, "default", "req_1"))


def test_what_the_request_has_spent_is_not_given_to_the_engine(publish, fakes):
    publish("sentiment")
    predicted(fakes, 0.1, timeout_ms=900)
    assert fakes.submit.timeouts == pytest.approx([0.6])  # looks: the timer's, before tokenizing, before sending
    assert fakes.submit.seen[0].deadline_ms == pytest.approx(600)


@pytest.mark.parametrize(("step_s", "at"), [(0.4, "before tokenizing"), (0.3, "")])
def test_a_request_that_has_spent_its_time_sends_nothing(publish, fakes, step_s, at):
    publish("sentiment")
    with pytest.raises(DeadlineExceeded, match=f"no answer within 800 ms.*{at}"):
        predicted(fakes, step_s, timeout_ms=800)
    assert not fakes.submit.seen


@pytest.mark.parametrize("name", ["word", "serialised"])
@pytest.mark.parametrize("adapters", ["sentiment", "tagger"])
def test_an_answer_that_is_not_brief_is_worded_off_the_event_loop(predict, monkeypatch, name, adapters):
    monkeypatch.setattr("serving.api.predict.BRIEF", 1)
    loops, real = [], getattr(serving.api.predict, name)

    def spy(*args):
        loops.append(asyncio._get_running_loop())
        return real(*args)

    monkeypatch.setattr(f"serving.api.predict.{name}", spy)
    assert predict("i", adapters).status_code == 200
    assert loops == [None]


def test_a_brief_answer_takes_no_thread(predict, monkeypatch):
    threads, real = [], serving.api.predict.word
    monkeypatch.setattr(
        "serving.api.predict.word", lambda *args: (threads.append(asyncio._get_running_loop()), real(*args))[1]
    )
    assert predict("i").status_code == 200
    assert threads != [None]


def test_the_time_for_wording_counts(publish, fakes, monkeypatch):
    publish("sentiment")
    monkeypatch.setattr("serving.api.predict.BRIEF", 1)
    worded = threading.Event()
    monkeypatch.setattr("serving.api.predict.word", lambda *_: worded.wait(10))
    body = PredictRequest.model_validate({"inputs": "i", "adapters": "sentiment", "timeout_ms": 30})

    async def scenario():
        try:
            with pytest.raises(DeadlineExceeded):
                await Predictor(fakes.services).predict(body, "default", "req_1")
        finally:
            worded.set()

    asyncio.run(scenario())


def test_an_answer_beyond_all_bounds_is_refused_before_anything_runs(client, publish, fakes):
    publish("filler", adapter_manifest(head_of("masked_lm")))
    body = {"inputs": ["[MASK] " * 14] * 200, "adapters": "filler", "parameters": {"top_k": 8}}
    response = client.post("/v1/predict", json=body)
    problem = response.json()
    assert (response.status_code, problem["code"]) == (413, "too_many_items")
    assert problem["errors"][0]["pointer"] == "/parameters/top_k"
    assert "22400 items; at most 20000" in problem["detail"]
    assert not fakes.submit.seen


def test_every_task_names_its_head(client, publish):
    for name in ("one", "two", "three"):
        publish(name)
    body = {"inputs": ["i", "you"], "adapters": {"multi_task": ["one", "two", "three"]}}
    answer = client.post("/v1/predict", json={**body, "parameters": {"task_ids": ["three", "one"]}}).json()
    PredictAnswer.model_validate(answer, extra="forbid", strict=True)
    assert answer["target"]["head"] is None
    assert [head["name"] for head in answer["target"]["heads"]] == ["one", "three"]


def test_large_answers_leave_threads_to_the_small_ones(predict, monkeypatch):
    threads, real = [], serving.api.predict.word
    monkeypatch.setattr("serving.api.predict.BRIEF", 1)
    monkeypatch.setattr(
        "serving.api.predict.word", lambda *args: (threads.append(threading.current_thread().name), real(*args))[1]
    )
    for large in (4096, 1):
        monkeypatch.setattr("serving.api.predict.LARGE", large)
        assert predict("i").status_code == 200
    assert [name.startswith("large-answer") for name in threads] == [False, True]


def test_without_a_door_nobody_is_refused(publish, fakes):
    publish("sentiment")
    fakes.directory.quotas["default"] = Quota(requests_per_s=0.001, concurrency=0)
    request = PredictRequest.model_validate({"inputs": "i", "adapters": "sentiment"})
    predictor = Predictor(fakes.services)  # as the gate of a promote has one
    for _ in range(3):
        assert asyncio.run(predictor.predict(request, "default", "req_1")).content
