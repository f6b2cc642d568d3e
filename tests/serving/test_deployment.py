"""From settings to a service: what refuses to start says why, and leaves nothing behind. The rest is in tests/e2e."""

import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from serving import deployment
from serving.config import ServiceSettings
from serving.deployment import serve_forever, start
from serving.errors import Conflict, Unprocessable
from serving.premises import Premises, free_ports
from serving.registry.catalog import Catalog
from serving.registry.database import Database
from tests.serving.samples import PROFILE, tokenizer_json


@pytest.fixture
def settings(tmp_path, monkeypatch):
    """A backbone that reads well enough to be looked at, and no Ray: whoever gets as far as that fails."""
    monkeypatch.delitem(sys.modules, "ray", raising=False)
    monkeypatch.setattr(deployment, "read_profile", lambda _: PROFILE)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    (tmp_path / "tokenizer.json").write_bytes(tokenizer_json())
    return ServiceSettings(backbone=tmp_path, data=tmp_path / "data", port=free_ports(1)[0])


def free(settings):
    """The data folder can be opened again."""
    Premises.open(settings.data).close()
    return True


def test_a_folder_that_is_no_backbone_is_refused(settings, monkeypatch):
    monkeypatch.undo()
    monkeypatch.delitem(sys.modules, "ray", raising=False)
    with pytest.raises(Exception, match=r"config\.json"):
        start(settings)
    assert not settings.data.exists()


def test_a_backbone_without_a_tokenizer_is_refused(settings):
    (settings.backbone / "tokenizer.json").unlink()
    with pytest.raises(Unprocessable, match=r"no tokenizer\.json"):
        start(settings)


def test_a_taken_port_is_refused(settings):
    with socket.socket() as other:
        other.bind(("127.0.0.1", settings.port))
        other.listen()
        with pytest.raises(Conflict, match="can not listen"):
            start(settings)
    assert free(settings)


def test_a_data_folder_in_use_is_refused(settings):
    held = Premises.open(settings.data)
    with pytest.raises(Conflict, match="served by another process"):
        start(settings)
    held.close()


def test_the_data_of_another_backbone_are_refused_by_name(settings, monkeypatch):
    settings.data.mkdir()
    database = Database.open(settings.sql_url)
    Catalog(database).bind(PROFILE)
    database.close()
    other = type(PROFILE)("other-bert", "sha256:" + "c" * 64, PROFILE.geometry, has_pooler=True)
    monkeypatch.setattr(deployment, "read_profile", lambda _: other)
    with pytest.raises(Conflict, match=r"tiny-bert.*other-bert"):
        start(settings)
    assert free(settings)


def test_a_process_that_has_imported_ray_can_not_start_a_service(settings, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", object())
    with pytest.raises(RuntimeError, match="fresh process"):
        start(settings)


def test_what_fails_later_is_undone(settings, monkeypatch):
    def fail(*_):
        raise OSError("no more memory")

    monkeypatch.setattr(deployment, "_set_environment", lambda *_: None)
    monkeypatch.setattr(deployment, "_deploy", fail)
    with pytest.raises(OSError, match="no more memory"):
        start(settings)
    assert free(settings)


class Running:
    url = "http://127.0.0.1:1"
    stopped = 0

    def stop(self):
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN, "a second signal would leave half of it"
        self.stopped += 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_the_service_and_gives_the_handlers_back(settings, monkeypatch, number):
    running, before = Running(), signal.getsignal(number)

    class Asked(deployment.threading.Event):
        def wait(self, timeout=None):
            signal.raise_signal(number)

    monkeypatch.setattr(deployment.threading, "Event", Asked)
    monkeypatch.setattr(deployment, "start", lambda _: running)
    monkeypatch.setattr(deployment, "configure", lambda: None)
    serve_forever(settings)
    assert running.stopped == 1
    assert signal.getsignal(number) is before


def test_nothing_of_ray_is_imported_before_the_environment_is_set():
    code = "import sys, serving.deployment; assert not {'ray', 'torch'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])
