import asyncio

import pytest

from loadtests.proofs import engine_kills
from loadtests.proofs.engine_kills import Seen, _evidence, capacity, within
from loadtests.proofs.given import Given
from loadtests.proofs.stage import StageFailed
from loadtests.proofs.steady import Sample, Steady

KILLS = [(10.0, 20.0), (30.0, 40.0)]


@pytest.mark.parametrize(
    ("due", "seconds", "troubled"),
    [(5.0, 1.0, False), (9.0, 2.0, True), (15.0, 0.1, True), (19.9, 5.0, True), (20.0, 5.0, False), (25.0, 6.0, True)],
)
def test_a_request_is_troubled_by_a_kill_where_any_part_of_it_was(due, seconds, troubled):
    assert within(Sample(due, seconds, ""), KILLS) is troubled


def test_what_the_service_can_is_counted_with_many_under_way(monkeypatch):
    monkeypatch.setattr(engine_kills, "FIND_S", 0.2)
    under_way, most = 0, 0

    async def ask(_number):
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0)
        under_way -= 1
        return ""

    assert asyncio.run(capacity(ask)) > 100
    assert most == engine_kills.UNDER_WAY


def test_a_service_that_fails_before_anything_is_killed_proves_nothing(monkeypatch):
    async def ask(_number):
        return "503 not_ready"

    with pytest.raises(StageFailed, match="503 not_ready"):
        asyncio.run(capacity(ask))


def evidence(tmp_path, *, slow=0.3, fault="", victims=(1, 2), exit_code=0, troubled=100):
    steady = Steady(None, 10.0)
    steady.samples += [Sample(5.0, 0.1, "") for _ in range(100)]
    steady.samples += [Sample(15.0, slow, "") for _ in range(troubled - 1)] + [Sample(15.0, 0.1, fault)]
    seen = Seen(10.0, steady, KILLS, set(victims))
    found = _evidence(Given(tmp_path, quick=True), seen, exit_code)
    return [figure.name for figure in found.broken]


def test_waits_up_to_three_times_as_long_keep_the_promise(tmp_path):
    assert evidence(tmp_path, slow=0.29) == []


@pytest.mark.parametrize(
    ("change", "broken"),
    [
        ({"slow": 0.31}, ["p99 from a kill to recovery over quiet p99"]),
        ({"fault": "503 not_ready"}, ["failed or wrong answers"]),
        ({"victims": (1,)}, ["engines killed"]),
        ({"troubled": 39}, ["answers while an engine was lost"]),
        ({"exit_code": 1}, ["exit code of the stop"]),
    ],
)
def test_each_breach_breaks_its_figure(tmp_path, change, broken):
    assert evidence(tmp_path, **{"slow": 0.29, **change}) == broken
