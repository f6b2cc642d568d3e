import asyncio
from collections import Counter
from contextlib import contextmanager
from types import SimpleNamespace

import pytest

from loadtests.proofs import database_outage
from loadtests.proofs.database_outage import Found, Size, figures, seen
from loadtests.proofs.known import Known
from loadtests.proofs.steady import Sample, Steady, faults
from tests.loadtests.proofs.fake_service import FakeService, asked, refused

SIZE = Size(0.1, 0.1)
REFUSED = {"publish": (503, "registry_unavailable"), "alias": (503, "registry_unavailable")}


def good():
    """An outage that went well."""
    samples = [Sample(float(n), 0.01, "") for n in range(10)]
    strangers = Counter({"401 unauthenticated": 2, "503 registry_unavailable": 1})
    return Found(samples, Counter({"503 registry_unavailable": 3}), [0.1] * 3, strangers=strangers, recovery_s=1.0)


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
        ({"strangers": Counter({"200": 1, "401": 1})}, "keys that are none not refused, database stopped"),
        ({"strangers": Counter()}, "keys that are none tried, database stopped"),
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
    assert found.strangers == {"401 unauthenticated": found.writes.total()}
    assert found.recovery_s > 0
    assert list(fake.names) == ["away/x"]


def test_a_refusal_without_a_time_to_come_back_is_counted(forge, monkeypatch):
    monkeypatch.setattr("tests.loadtests.proofs.fake_service.REFUSALS", {})
    _, found = with_service(forge, REFUSED, 6, monkeypatch)
    assert found.not_told_when == found.writes.total() > 0


class Outage:
    """A database that takes a fake service's writes with it; a prediction meanwhile is answered after everything else."""

    def __init__(self, fake):
        self._fake, self._answer = fake, fake.predict
        self._late, self.over = iter([True]), asyncio.Event()
        fake.predict = self.predict

    async def predict(self, request):
        known = (await request.json())["adapters"][0].startswith("known/")
        if known and self._fake.refused and next(self._late, False):
            await self.over.wait()
            return refused(504, "deadline_exceeded")
        return await self._answer(request)

    def stop(self):
        self._fake.refused = dict(REFUSED)

    def start(self):
        self._fake.refused = {}

    @contextmanager
    def stalled(self):
        self.stop()
        yield
        self.start()


def test_a_request_that_is_still_on_its_way_in_the_end_is_of_every_outage_that_it_saw(forge, monkeypatch):
    for pause in ("WRITE_S", "MARGIN_S"):
        monkeypatch.setattr(database_outage, pause, 0.02)
    monkeypatch.setattr(database_outage, "RATE", 100.0)
    fake = FakeService(forge.texts)
    server, fingerprint = Outage(fake), forge.make
    monkeypatch.setattr(forge, "make", lambda *given: fake.learn(fingerprint(*given)))

    class Stopping(Steady):
        async def stop(self):
            server.over.set()
            await super().stop()

    monkeypatch.setattr(database_outage, "Steady", Stopping)

    async def scenario(session):
        stage = SimpleNamespace(session=lambda: session)
        return await database_outage.run(stage, server, forge, Size(0.2, 0.1))

    stopped, stalled = asked(fake, scenario)
    assert faults(stopped.samples) == faults(stalled.samples) == {"504 deadline_exceeded": 1}
    assert len(stopped.samples) > 10
