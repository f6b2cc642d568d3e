from dataclasses import replace

from tests.loadtests.fake import CLIENT, plain_run


def test_a_run_passes_where_every_check_holds():
    run = plain_run()
    assert run.passed
    broken = replace(run.checks[0], holds=False)
    assert not replace(run, checks=(*run.checks, broken)).passed


def test_the_clients_lag_is_the_worse_of_sending_and_reading():
    assert CLIENT.lag_p99_ms == 1.5
    assert replace(CLIENT, sent_p99_ms=4.0).lag_p99_ms == 4.0


def test_what_others_used_is_the_rest_of_the_machine():
    assert round(CLIENT.other_cores, 6) == 0.2
    assert replace(CLIENT, service_cores=None).other_cores is None
    assert replace(CLIENT, machine_cores=0.1).other_cores == 0.0
