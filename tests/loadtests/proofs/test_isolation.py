import json

import pytest

from loadtests.proofs.given import Given
from loadtests.proofs.isolation import Found, _evidence
from loadtests.proofs.prying import Route
from loadtests.proofs.table import PROOFS


class Ground:
    estates = ("one", "two")
    routes = (Route("show", "GET", "/", (), False), Route("hide", "GET", "/", (), False))


@pytest.mark.parametrize(
    ("change", "broken"),
    [
        (lambda found: None, []),
        (lambda found: found.asked.pop("hide"), ["routes that were asked nothing"]),
        (lambda found: found.told_apart.append("x"), ["foreign and absent told apart"]),
        (lambda found: found.leaks.update(["x"]), ["words of another tenant in an answer"]),
        (lambda found: found.granted.append("x"), ["granted to who may not"]),
        (lambda found: found.unlocked.append("x"), ["answered without a key"]),
        (lambda found: found.changed.append("x"), ["changed for its owner"]),
        (lambda found: found.mixed_up.update(["x"]), ["predictions by another's package"]),
        (lambda found: found.statuses.update([500]), ["server errors"]),
    ],
)
def test_each_breach_breaks_its_figure(tmp_path, change, broken):
    found = Found()
    found.asked.update(["show", "hide"])
    found.statuses.update([200, 404])
    change(found)
    evidence = _evidence(Given(tmp_path), Ground(), found)
    assert [figure.name for figure in evidence.broken] == broken


def test_a_parameter_that_nobody_decided_about_breaks_the_proof(tmp_path):
    ground = Ground()
    ground.routes = (Route("show", "GET", "/", ("limit", "owner"), False),)
    found = Found()
    found.asked.update(["show"])
    evidence = _evidence(Given(tmp_path), ground, found)
    assert [figure.name for figure in evidence.broken] == ["query parameters that were asked nothing"]
    assert evidence.seen["routes and parameters without a question"] == ["show?owner"]


@pytest.mark.ray
def test_a_real_service_keeps_tenants_apart(tmp_path):
    found = PROOFS["isolation"].run(Given(tmp_path, quick=True))
    assert found.broken == (), json.dumps(found.json(), indent=1)
    assert found.holds
