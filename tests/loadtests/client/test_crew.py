import asyncio
from collections import Counter
from dataclasses import replace

import pytest

from loadtests.client import crew
from loadtests.client.crew import CrewFailed, split
from loadtests.client.plan import FAILED, Publishes
from tests.loadtests.client.test_sending import PLAN

MANY = replace(PLAN, requests=tuple((n / 100, 0, (0,)) for n in range(10)))


def test_every_request_goes_to_one_process(tmp_path):
    parts = split(MANY, 3, tmp_path)
    assert sorted(request for part in parts for request in part.requests) == list(MANY.requests)
    assert [len(part.requests) for part in parts] == [4, 3, 3]
    assert len({part.written for part in parts}) == 3


def test_a_closed_loop_is_divided(tmp_path):
    assert [part.closed for part in split(replace(MANY, closed=7), 3, tmp_path)] == [3, 2, 2]
    assert [part.closed for part in split(replace(MANY, closed=2), 3, tmp_path)] == [1, 1]
    assert all(part.closed == 0 for part in split(MANY, 2, tmp_path))


def test_a_process_without_requests_is_not_started(tmp_path):
    assert len(split(replace(MANY, requests=MANY.requests[:2]), 5, tmp_path)) == 2


def test_what_all_processes_found_comes_home_in_order(tmp_path):
    heard, begun = [], []
    plans = split(MANY, 2, tmp_path)  # nobody answers at port 1
    sent = asyncio.run(crew.send(plans, None, heard.append, lambda start, pids: begun.append((start, len(pids)))))
    assert [sample.intended for sample in sent.samples] == [request[0] for request in MANY.requests]
    assert heard[-1] == Counter({FAILED: 10})
    assert begun == [(sent.start, 2)]
    assert len(sent.lags) == 2
    assert sent.published == ()


def test_the_publishers_processor_time_is_the_clients_too(tmp_path):
    package = tmp_path / "package"
    package.write_bytes(bytes(8))
    told = Publishes(
        PLAN.place, PLAN.tenants[0], "hot", str(package), (0, 4), (0.0, 0.0), 1.0, PLAN.known[0], "x", (), False, 1000, 1e-4,
        str(tmp_path / "published"),
    )  # fmt: skip
    begun = []
    asyncio.run(crew.send(split(MANY, 2, tmp_path), told, lambda _: None, lambda _, pids: begun.append(len(set(pids)))))
    assert begun == [3]


def test_a_process_that_can_not_start_ends_the_run(tmp_path, capfd):
    broken = replace(PLAN, place="nowhere", written=str(tmp_path / "x"))
    with pytest.raises(CrewFailed, match="did not start"):
        asyncio.run(crew.send([broken], None, lambda _: None, lambda *_: None))
    assert "ValidationError" in capfd.readouterr().err


def test_a_process_that_dies_ends_the_run(tmp_path, capfd):
    broken = replace(PLAN, written=str(tmp_path / "none" / "x"))
    with pytest.raises(CrewFailed, match="ended with 1"):
        asyncio.run(crew.send([broken], None, lambda _: None, lambda *_: None))
    assert "FileNotFoundError" in capfd.readouterr().err
