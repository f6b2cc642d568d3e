import math

import pytest

from loadtests.answers import Reference, fault, smallest_distance, tier_of

REFERENCE = Reference("sha256:aa", ("x.0", "x.1"), (0.5, -1.25))


def body(digest="sha256:aa", labels=("x.0", "x.1"), scores=(0.5, -1.25), residency=None):
    return {
        "outputs": [[{"label": label, "score": score} for label, score in zip(labels, scores, strict=True)]],
        "target": {"adapters": [{"name": "other", "digest": "sha256:zz"}, {"name": "x", "digest": digest}]},
        "residency": residency or {"x": "device"},
    }


def test_the_adapters_own_answer_is_right():
    assert fault(body(), REFERENCE, 1e-4) is None
    assert fault(body(scores=(0.50005, -1.25)), REFERENCE, 1e-4) is None


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (body(digest="sha256:bb"), "answered by sha256:bb"),
        (body(labels=("y.0", "y.1")), "labels"),
        (body(labels=("x.1", "x.0")), "labels"),
        (body(scores=(0.5, -1.2)), "scores off by 0.05"),
        (body(scores=(math.nan, -1.25)), "scores off"),
        (body(scores=(math.inf, -1.25)), "scores off"),
        ({"outputs": []}, "unreadable"),
        ({"outputs": [[{"label": "x.0"}]]}, "unreadable"),
        ({"outputs": [[]], "target": {"adapters": []}}, "unreadable"),
        ({}, "unreadable"),
    ],
)
def test_every_other_answer_is_a_fault(answer, says):
    assert says in fault(answer, REFERENCE, 1e-4)


def test_one_tier_off_the_device_is_a_miss():
    assert tier_of(body()) == "hit"
    assert tier_of(body(residency={"x": "device", "y": "host"})) == "miss"
    assert tier_of(body(residency={"x": "disk"})) == "miss"


def test_the_smallest_distance_is_between_different_adapters():
    near = Reference("sha256:bb", ("y.0", "y.1"), (0.5, -1.0))
    far = Reference("sha256:cc", ("z.0", "z.1"), (9.0, 9.0))
    assert smallest_distance([REFERENCE, near, far, REFERENCE]) == pytest.approx(0.25)
    assert smallest_distance([REFERENCE]) == math.inf
