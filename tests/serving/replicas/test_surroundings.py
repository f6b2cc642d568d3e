"""What every replica does first."""

import json
import logging

import pytest

from serving.config import ServiceSettings
from serving.replicas import surroundings
from serving.replicas.surroundings import fault_file, reported, settle


@pytest.fixture
def settings(tmp_path, monkeypatch):
    monkeypatch.setattr(surroundings, "replica_id", lambda: "abc123")
    monkeypatch.setattr(surroundings, "bind_to_loopback", lambda: None)
    yield ServiceSettings(backbone=tmp_path, data=tmp_path)
    root = logging.getLogger("chorus")
    root.handlers.clear()
    root.propagate = True


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
