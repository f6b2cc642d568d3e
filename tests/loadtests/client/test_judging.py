import json
import math

import pytest

from loadtests.client.connection import Answer
from loadtests.client.judging import judge
from loadtests.client.plan import FAILED, LATE, REFUSED, RIGHT, WRONG, Known

KNOWN = Known(0, "x", "sha256:aa", ("x.0", "x.1"), (7, 9), ((0.5, -1.25), (2.0, 3.0)))


def told(digest="sha256:aa", labels=("x.0", "x.1"), rows=((0.5, -1.25),), residency=None):
    outputs = [[{"label": k, "score": score} for k, score in zip(labels, row, strict=True)] for row in rows]
    return {
        "outputs": outputs,
        "target": {"adapters": [{"digest": "sha256:zz"}, {"digest": digest}]},
        "residency": residency or {"x": "device"},
        "usage": {"prompt_tokens": 12},
        "timing_ms": {"queue": 1.0, "load": 2.0, "forward": 3.0},
    }


def judged(body, asked=(0,), status=200, headers=b""):
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return judge(Answer(status, b"HTTP/1.1 x\r\n" + headers, raw), KNOWN, asked, 1e-4)


def test_the_adapters_own_answer_is_right_and_tells_of_itself():
    found = judged(told(rows=((0.50005, -1.25), (2.0, 3.0)), residency={"x": "host", "y": "device"}), asked=(0, 1))
    assert (found.verdict, found.detail, found.tiers) == (RIGHT, "", ("host", "device"))
    assert (found.tokens, found.queue_ms, found.load_ms, found.forward_ms) == (12, 1.0, 2.0, 3.0)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (told(digest="sha256:bb"), "answered by sha256:bb, not sha256:aa"),
        (told(labels=("y.0", "y.1")), "labels"),
        (told(labels=("x.1", "x.0")), "labels"),
        (told(rows=((2.0, 3.0),)), "logits off by 4.25"),
        (told(rows=((math.nan, -1.25),)), "logits off by nan"),
        (told(rows=((0.5, math.nan),)), "logits off by nan"),
        (told(rows=((math.inf, -1.25),)), "logits off by inf"),
        (told(rows=()), "0 answers to 1 texts"),
        (told(rows=((0.5, -1.25), (2.0, 3.0))), "2 answers to 1 texts"),
        (told() | {"target": {"adapters": []}}, "unreadable"),
        (told() | {"timing_ms": {}}, "unreadable"),
        ({}, "unreadable"),
        (b"<html>", "unreadable"),
        (b"[]", "unreadable"),
    ],
)
def test_every_other_answer_with_a_200_is_wrong(body, says):
    found = judged(body)
    assert found.verdict == WRONG
    assert says in found.detail


def test_rows_are_judged_each_for_its_own_text():
    assert judged(told(rows=((2.0, 3.0), (0.5, -1.25))), asked=(1, 0)).verdict == RIGHT
    assert judged(told(rows=((0.5, -1.25), (2.0, 3.0))), asked=(1, 0)).verdict == WRONG


@pytest.mark.parametrize(
    ("status", "headers", "verdict"),
    [
        (503, b"Retry-After: 1\r\n", REFUSED),
        (429, b"retry-after: 1\r\n", REFUSED),
        (503, b"", FAILED),
        (504, b"", LATE),
        (500, b"Retry-After: 1\r\n", FAILED),
        (404, b"", FAILED),
    ],
)
def test_a_refusal_says_when_to_come_back_and_else_is_a_failure(status, headers, verdict):
    found = judged({"code": "why"}, status=status, headers=headers)
    assert (found.verdict, found.detail) == (verdict, f"{status} why")


def test_an_error_page_is_a_failure_and_no_wrong_answer():
    assert judged(b"<html>", status=502).verdict == FAILED
