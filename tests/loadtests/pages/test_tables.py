from dataclasses import replace

import pytest

from loadtests.pages.tables import client_of, facts_of, size, steps_of
from tests.loadtests.fake import plain_run, sweep_run


def cell(table, column, row=0):
    return table.rows[row][table.columns.index(column)]


def test_a_step_tells_what_the_papers_leave_out():
    table = steps_of(plain_run())
    assert cell(table, "offered/s") == "50"
    assert cell(table, "adapters asked") == "1"
    assert cell(table, "distinct per batch") == "3"
    assert cell(table, "hit ratio device") == "0.8"
    assert cell(table, "hit ratio disk or store") == "-"
    assert cell(table, "not right") == ""
    assert "round" not in table.columns


def test_swept_values_and_rounds_have_columns_of_their_own():
    table = steps_of(sweep_run(rounds=2))
    assert table.columns[:2] == ("offered load, share of the peak", "round")
    assert [row[:2] for row in table.rows[2:4]] == [("1.5", "1"), ("0.5", "2")]
    assert "refused: 503 busy (" in cell(table, "not right", 2)
    assert all(len(row) == len(table.columns) for row in table.rows)


def test_a_closed_loop_offers_nothing_and_unread_metrics_are_dashes():
    run = plain_run()
    table = steps_of(replace(run, takes=(replace(run.takes[0], rate=None, counted=None),)))
    assert cell(table, "offered/s") == "closed loop"
    assert cell(table, "rows per batch") == "-"


def test_the_client_tells_who_used_the_machine():
    run = plain_run()
    table = client_of(replace(run, takes=(replace(run.takes[0], client=replace(run.takes[0].client, again=3)),)))
    assert (cell(table, "cores: client"), cell(table, "service"), cell(table, "others")) == ("0.1", "1.2", "0.2")
    assert cell(table, "left late, p99 ms") == "1"
    assert cell(table, "sent again") == "3"


def test_facts_are_told_in_words_and_nothing_that_is_not_known():
    run = replace(
        plain_run(),
        population={"package_bytes": 442_000, "methods": ["lora", "ia3"], "slot_bytes": None},
        service={"own": True, "options": (), "budgets": [{"device": 1 << 20, "host": 1 << 30}]},
        environment={"memory_gib": 23.5, "load_average": [1.0, 0.5, 0.25], "commit": ""},
    )
    assert facts_of(run) == {
        "population": {"package": "432 KiB", "methods": "lora, ia3"},
        "service": {"own": "yes", "budgets": "device 1 MiB, host 1 GiB"},
        "machine": {"memory": "23.5 GiB", "load average": "1, 0.5, 0.25"},
    }


def test_the_budgets_of_several_rooms_are_told_apart():
    run = replace(plain_run(), service={"budgets": [{"device": 1 << 20, "host": 5}, {"device": 1 << 21, "host": 5}]})
    assert facts_of(run)["service"] == {"budgets": "device 1 MiB, host 5 B; device 2 MiB, host 5 B"}


def test_of_a_running_service_the_hardware_is_the_clients():
    run = replace(plain_run(), service={"own": False})
    assert "the client's machine; of the service's nothing is known" in facts_of(run)


@pytest.mark.parametrize(("count", "told"), [(12, "12 B"), (2048, "2 KiB"), (3.5 * 2**20, "3.5 MiB"), (2**33, "8 GiB")])
def test_sizes_are_small_numbers(count, told):
    assert size(count) == told
