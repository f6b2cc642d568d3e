from collections import Counter
from types import SimpleNamespace

import pytest

from loadtests.proofs import database_outage
from loadtests.proofs.database_outage import Found, Size, figures, seen
from loadtests.proofs.known import Known
from loadtests.proofs.steady import Sample
from tests.loadtests.proofs.fake_service import FakeService, asked

SIZE = Size(0.1, 0.1)
REFUSED = {"publish": (503, "registry_unavailable"), "alias": (503, "registry_unavailable")}


def good():
    """An outage that went well."""
    samples = [Sample(float(n), 0.01, "") for n in range(10)]
    return Found(samples, Counter({"503 registry_unavailable": 3}), [0.1] * 3, recovery_s=1.0)


def broken(**changes):
    found = good()
    for name, value in changes.items():
        setattr(found, name, value)
    return [figure.name for figure in figures(SIZE, found, good()) if not figure.holds]


def test_an_outage_that_went_well_holds():
    assert broken() == []


@pytest.mark.parametrize(
    ("changes", "figure"),
    [
        ({"samples": [*good().samples, Sample(1.0, 0.1, "503 not_ready")]}, "predictions failed, database stopped"),
        ({"samples": [*good().samples, Sample(1.0, 0.1, "wrong: x")]}, "predictions failed, database stopped"),
        ({"samples": []}, "predictions asked, database stopped"),
        ({"writes": Counter({"503 registry_unavailable": 1, "201": 1})}, "writes not answered 503, database stopped"),
        ({"writes": Counter({"503 registry_unavailable": 1, "500": 1})}, "writes not answered 503, database stopped"),
        ({"writes": Counter()}, "writes refused, database stopped"),
        ({"not_told_when": 1}, "refusals without Retry-After, database stopped"),
        ({"recovery_s": 6.0}, "recovery after the database was stopped"),
        ({"recovery_s": float("nan")}, "recovery after the database was stopped"),
    ],
)
def test_everything_else_breaks_the_promise(changes, figure):
    assert broken(**changes) == [figure]


def test_the_reader_sees_what_failed():
    found = good()
    found.samples.append(Sample(1.0, 0.1, "503 not_ready"))
    assert seen(found)["failed"] == {"503 not_ready": 1}
    assert seen(found)["predictions, seconds"]["count"] == 11


def with_service(forge, refused, steps, monkeypatch):
    """Write so many times while the service refuses, then recover."""
    monkeypatch.setattr(database_outage, "WRITE_S", 0.0)
    fake, found, clock = FakeService(forge.texts), Found(), iter(range(10**6))
    monkeypatch.setattr(database_outage, "time", SimpleNamespace(monotonic=lambda: float(next(clock))))

    async def scenario(session):
        known = Known(forge, session, 0)
        await known.add([])
        fake.refused = dict(refused)
        await database_outage._write(session, known, found, 5.0 * steps, "x")
        fake.learn(known.made["away/x"])
        fake.refused = {}
        await database_outage._recover(session, known, found, "x")

    asked(fake, scenario)
    return fake, found


def test_publishes_and_promotes_are_tried_while_it_is_away_and_again_afterwards(forge, monkeypatch):
    fake, found = with_service(forge, REFUSED, 20, monkeypatch)
    assert found.writes.keys() == {"503 registry_unavailable"}
    assert {"PUT away/x", "PUT known/0/aliases/prod"} <= set(fake.calls)
    assert found.unknown == {"404 adapter_not_found": found.writes.total()}
    assert found.not_told_when == 0
    assert found.recovery_s > 0
    assert list(fake.names) == ["away/x"]


def test_a_refusal_without_a_time_to_come_back_is_counted(forge, monkeypatch):
    monkeypatch.setattr("tests.loadtests.proofs.fake_service.REFUSALS", {})
    _, found = with_service(forge, REFUSED, 6, monkeypatch)
    assert found.not_told_when == found.writes.total() > 0
