import asyncio
import time
from collections import Counter
from dataclasses import replace

import pytest

from loadtests.proofs import blob_outage
from loadtests.proofs.blob_outage import Found, Residents, Size, _heal, _spoil, figures, names, seen
from loadtests.proofs.known import Known
from loadtests.proofs.steady import Sample, faults
from tests.loadtests.proofs.fake_service import FakeService, asked

SIZE = Size(1.0, 1.0)


def good(**changes):
    residents = [Sample(float(n), 0.01, "") for n in range(30)]
    found = Found(
        residents,
        Counter({"": 9}),
        residents,
        Counter({"": 1, "424 blob_rotten": 3}),
        Counter({"503 storage_unavailable": 2}),
        1.0,
        5,
    )
    return replace(found, **changes)


def broken(stalled=None, damaged=None, rotten=None):
    found = figures(SIZE, stalled or good(), damaged or good(), rotten or good())
    return [figure.name for figure in found if not figure.holds]


def test_stores_that_did_no_harm_hold():
    assert broken() == []


@pytest.mark.parametrize("cold", ["wrong: other bytes", "wrong: another package answered"])
def test_one_corrupt_answer_breaks_the_promise(cold):
    assert broken(damaged=good(cold=Counter({cold: 1}))) == ["corrupt bytes served, store damaging"]
    assert broken(damaged=good(beside=Counter({cold: 1}))) == ["corrupt bytes served, store damaging"]


def test_a_resident_that_is_wrong_is_corrupt_and_failed():
    samples = [*good().residents, Sample(1.0, 0.01, "wrong: another package answered")]
    assert broken(rotten=good(residents=samples)) == [
        "residents failed, store rotten on disk",
        "corrupt bytes served, store rotten on disk",
    ]


def test_a_resident_that_is_refused_breaks_the_promise():
    samples = [*good().residents, Sample(1.0, 0.01, "504 deadline_exceeded")]
    assert broken(stalled=good(residents=samples)) == ["residents failed, store stalled"]


def test_residents_that_wait_longer_than_before_break_the_promise():
    slow = [Sample(float(n), 0.016, "") for n in range(30)]
    assert broken(stalled=good(residents=slow)) == ["residents' p99 over quiet, store stalled"]
    assert broken(damaged=good(residents=slow)) == ["residents' p99 over quiet, store damaging"]
    assert broken(rotten=good(quiet=slow, residents=slow)) == []


def test_what_was_not_tried_proves_nothing():
    untried = ["residents' p99 over quiet, store stalled", "residents asked, store stalled"]
    assert broken(stalled=good(residents=[])) == untried
    assert broken(stalled=good(quiet=[])) == untried[:1]
    assert "pieces and files that were damaged" in broken(damaged=good(damaged=0), rotten=good(damaged=0))
    assert broken(rotten=good(healed_s=float("nan"))) == ["healed, store rotten on disk"]


def test_a_publish_that_a_stalled_store_takes_or_loses_breaks_the_promise():
    for told in ("201", "500 internal_error", "TimeoutError"):
        assert broken(stalled=good(writes=Counter({told: 1}))) == ["publishes not answered 503, store stalled"]


def test_the_reader_sees_what_came_of_the_rest():
    assert seen(good())["not resident"] == {"right": 1, "424 blob_rotten": 3}


@pytest.mark.parametrize("number", range(3))
def test_a_file_is_damaged_in_three_ways(tmp_path, number):
    path, linked = tmp_path / "blob", tmp_path / "linked"
    path.write_bytes(b"0123456789")
    linked.hardlink_to(path)
    _spoil(path, number)
    left = path.read_bytes() if path.exists() else None
    assert left == {0: b"012344789"[:5] + b"4" + b"6789", 1: b"01234", 2: None}[number]
    if left is not None:
        assert linked.read_bytes() == left  # whoever has linked the file sees it as well


def test_healing_publishes_the_same_bytes_until_everything_answers(forge):
    fake, found = FakeService(forge.texts), Found()
    seen_by = Counter()

    async def scenario(session):
        known = Known(forge, session, 0)
        for name in names("cold", 3):
            fake.learn(known.make(name))

        def spoil(data):  # the first package that is fetched is still refused
            seen_by["fetch"] += 1
            return data if seen_by["fetch"] > 1 else b"rotten"

        fake.spoil = spoil
        await _heal(known, names("cold", 3), found)

    asked(fake, scenario)
    assert sorted(fake.names) == names("cold", 3)
    assert seen_by["fetch"] == 4
    assert found.healed_s > 0


def test_a_resident_is_of_every_trouble_that_it_saw_and_quiet_only_if_it_saw_none(forge, monkeypatch):
    monkeypatch.setattr(blob_outage, "RATE", 200.0)
    monkeypatch.setattr(blob_outage, "LOOK_S", 0.02)
    first, second = Found(), Found()

    class Slow:
        """Answers at once, but for what is asked in the first trouble: that waits for the end of the second."""

        over, trouble = asyncio.Event(), False

        async def ask_all(self, names):
            return Counter(names)

        async def ask(self, _name):
            if not self.trouble:
                return ""
            await self.over.wait()
            return "504 deadline_exceeded"

    async def scenario():
        known = Slow()
        residents = Residents(known)
        for found in (first, second):
            async with residents.troubled(found, 0.1, ["cold/0"]) as until:
                known.trouble = found is first
                await asyncio.sleep(until - time.monotonic())
                known.trouble = False
        known.over.set()
        await residents.stop()

    asyncio.run(scenario())
    late = faults(first.residents)
    assert late.total() >= 5
    assert faults(second.residents) == late
    assert first.quiet and second.quiet
    assert first.beside.keys() == {"cold/0"}
    assert faults([*first.quiet, *second.quiet]) == {}


def test_names_are_of_one_kind():
    assert names("cold", 2) == ["cold/0", "cold/1"]
