"""The locustfile, with a stand-in for Locust itself, which is an extra of its own."""

import importlib.util
import json
import sys
import types

import pytest

from loadtests.client.crew import ROOT

ENTRIES = [
    {"name": "topic", "current": {"task": "text-classification"}},
    {"name": "tagger", "current": {"task": "token-classification"}},
    {"name": "lang", "current": {"task": None}},
]


class Answer:
    """What Locust hands out, as far as it is used."""

    def __init__(self, status, told):
        self.status_code, self.told, self.text = status, told, json.dumps(told)
        self.failed = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def json(self):
        return self.told

    def raise_for_status(self):
        assert self.status_code == 200

    def failure(self, why):
        self.failed = why


class Client:
    """Two pages of adapters, and right answers unless `told` says otherwise."""

    def __init__(self):
        self.asked = []
        self.told = None
        self.answers = []

    def get(self, path, params, headers, name):
        if params:
            return Answer(200, {"items": [{"name": "mood", "current": {"task": "text-classification"}}], "next": None})
        return Answer(200, {"items": ENTRIES, "next": "tagger"})

    def post(self, path, json, headers, name, catch_response):
        self.asked.append((json, headers))
        right = {"target": {"adapters": [{"name": json["adapters"][0]}]}, "outputs": [[]] * len(json["inputs"])}
        self.answers.append(Answer(*(self.told or (200, right))))
        return self.answers[-1]


@pytest.fixture
def locustfile(monkeypatch):
    locust = types.ModuleType("locust")
    locust.HttpUser = type("HttpUser", (), {})
    locust.between = lambda low, high: None
    locust.task = lambda work: work
    monkeypatch.setitem(sys.modules, "locust", locust)
    spec = importlib.util.spec_from_file_location("locustfile", ROOT / "loadtests" / "locustfile.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def user(locustfile, monkeypatch):
    monkeypatch.setenv("CHORUS_API_KEY", "ck_1")
    made = locustfile.Caller()
    made.client = Client()
    made.on_start()
    return made


def test_users_ask_the_classifiers_of_all_pages(user):
    for _ in range(50):
        user.predict()
    assert {asked["adapters"][0] for asked, _ in user.client.asked} == {"topic", "mood"}
    assert {len(asked["inputs"]) for asked, _ in user.client.asked} == {1, 2, 3, 4}
    assert {headers["Authorization"] for _, headers in user.client.asked} == {"Bearer ck_1"}
    assert not any(answer.failed for answer in user.client.answers)


@pytest.mark.parametrize(
    ("told", "says"),
    [
        ((200, {"target": {"adapters": [{"name": "other"}]}, "outputs": []}), "answered by other"),
        ((503, {"code": "overloaded_now"}), "503 overloaded_now"),
    ],
)
def test_every_other_answer_is_a_failure(user, told, says):
    user.client.told = told
    user.predict()
    assert says in user.client.answers[0].failed


def test_too_few_answers_and_no_json_are_faults(locustfile):
    told = json.dumps({"target": {"adapters": [{"name": "a"}]}, "outputs": [[]]})
    assert locustfile.fault(200, told, "a", 1) == ""
    assert locustfile.fault(200, told, "a", 2) == "1 answers to 2 texts"
    assert locustfile.fault(502, "<html>", "a", 1) == "502, no JSON"


def test_adapters_can_be_named(locustfile, monkeypatch):
    monkeypatch.setenv("CHORUS_ADAPTERS", "one,two")
    made = locustfile.Caller()
    made.on_start()
    assert made.adapters == ["one", "two"]


def test_without_adapters_nothing_starts(locustfile, monkeypatch):
    made = locustfile.Caller()
    made.client = Client()
    monkeypatch.setattr(locustfile, "is_classifier", lambda entry: False)
    with pytest.raises(RuntimeError, match="name them in CHORUS_ADAPTERS"):
        made.on_start()
