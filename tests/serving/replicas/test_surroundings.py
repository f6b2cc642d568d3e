"""What every replica does first."""

import gc
import json
import logging
from dataclasses import replace

import pytest
from ray.serve._private import replica as ray_replica

from serving.config import ServiceSettings
from serving.replicas import surroundings
from serving.replicas.surroundings import bind_to_loopback, fault_file, reported, settle, settled


@pytest.fixture
def settings(tmp_path, monkeypatch):
    monkeypatch.setattr(surroundings, "replica_id", lambda: "abc123")
    monkeypatch.setattr(surroundings, "bind_to_loopback", lambda: None)
    return ServiceSettings(backbone=tmp_path, data=tmp_path)


def test_a_replica_logs_into_the_data_folder(settings):
    assert settle(settings, "Engine") == "abc123"
    logging.getLogger("chorus.engine").info("hello")
    settle(settings, "Engine")
    logging.getLogger("chorus.engine").info("again")
    lines = (settings.data / "logs" / "engine.log").read_text().splitlines()
    assert [json.loads(line)["message"] for line in lines] == ["hello", "again"]


def test_a_replica_listens_on_loopback_before_anything_else(settings, monkeypatch):
    calls = []
    monkeypatch.setattr(surroundings, "bind_to_loopback", lambda: calls.append("bound"))
    settle(settings, "Gateway")
    assert calls == ["bound"]


def test_the_server_between_deployments_is_bound_to_loopback(monkeypatch):
    bound = []
    monkeypatch.setattr(ray_replica, "add_port_to_grpc_server", lambda _server, address: bound.append(address) or 5)
    bind_to_loopback()
    assert ray_replica.add_port_to_grpc_server(None, "[::]:0") == 5
    assert bound == ["127.0.0.1:0"]


def test_in_a_cluster_of_others_calls_may_come_from_other_nodes(settings, monkeypatch):
    monkeypatch.setattr(surroundings, "bind_to_loopback", lambda: pytest.fail("bound to loopback"))
    assert settle(replace(settings, ray_address="auto"), "Gateway") == "abc123"


def test_a_log_starts_anew_when_it_is_full(settings):
    settle(replace(settings, log_bytes=1000), "Engine")
    for number in range(100):
        logging.getLogger("chorus.engine").info("line %d", number)
    files = sorted((settings.data / "logs").glob("engine.log*"))
    assert len(files) > 1
    assert all(file.stat().st_size <= 1000 for file in files)
    assert json.loads((settings.data / "logs" / "engine.log").read_text().splitlines()[-1])["message"] == "line 99"


@pytest.mark.parametrize(("error", "word"), [(ValueError("no room"), "no room"), (KeyError(), "KeyError()")])
def test_a_failed_start_leaves_word(settings, error, word):
    settle(settings, "Engine")
    with pytest.raises(type(error)), reported(settings):
        raise error
    assert fault_file(settings).read_text() == word
    (line,) = (settings.data / "logs" / "engine.log").read_text().splitlines()
    assert json.loads(line)["error"] == type(error).__name__


def test_a_good_start_leaves_none(settings):
    settle(settings, "Engine")
    with reported(settings):
        pass
    assert not fault_file(settings).exists()


def test_what_was_made_at_the_start_is_not_looked_through_again():
    kept = [{"number": number} for number in range(100)]
    before, thresholds = gc.get_freeze_count(), gc.get_threshold()
    gc.set_threshold(700, 10, 10)
    try:
        settled()
        assert gc.get_freeze_count() >= before + 100
        assert not any(item is kept[0] for item in gc.get_objects())
        assert gc.get_threshold() == (700, 10, 300)  # nor often at what comes later
    finally:
        gc.unfreeze()
        gc.set_threshold(*thresholds)
