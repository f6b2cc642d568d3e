"""From settings to a service: what refuses to start says why, and leaves nothing behind. The rest is in tests/e2e."""

import signal
import socket
import subprocess
import sys
import types
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest

from serving import deployment, leaving
from serving.config import ServiceSettings
from serving.deployment import application, examined, prepare_registry, serve_forever, start
from serving.errors import BadRequest, Conflict, NotReady, Unprocessable
from serving.premises import Premises, free_ports, run_folder
from serving.registry.blobs.opening import open_blobs
from serving.registry.catalog import Catalog
from serving.registry.database import Database
from serving.registry.ownership import id_of
from serving.registry.whereabouts import refuse_elsewhere
from serving.replicas.surroundings import fault_file
from tests.adapters import builders
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


def test_a_backbone_of_images_needs_the_settings_of_its_images(settings, monkeypatch):
    monkeypatch.setattr(deployment, "read_profile", lambda folder: builders.profile("vit"))
    with pytest.raises(Unprocessable, match=r"holds no preprocessor_config\.json"):
        examined(settings)


def test_an_encoder_decoder_is_served_as_any_other(settings, monkeypatch):
    monkeypatch.setattr(deployment, "read_profile", lambda folder: builders.profile("t5"))
    assert examined(settings)


def test_a_trace_endpoint_that_is_no_url_is_refused_before_anything_starts(settings):
    with pytest.raises(BadRequest, match="trace_endpoint 'foo' is not http"):
        examined(replace(settings, trace_endpoint="foo"))
    assert not settings.data.exists()


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


def test_a_start_claims_the_blobs_and_notes_where_the_registry_is(settings):
    settings.data.mkdir()
    prepare_registry(settings, PROFILE)
    database = Database.open(settings.sql_url)
    assert open_blobs(settings).owner() == id_of(database)
    refuse_elsewhere(settings.data, database)
    database.close()
    other = Database.open(f"sqlite:///{settings.data / 'other.sqlite'}")
    with pytest.raises(Conflict, match=r"registry\.sqlite"):
        refuse_elsewhere(settings.data, other)
    other.close()


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


class Serve(types.ModuleType):
    """`ray.serve` as the start sees it: what it is told to raise, and what it was asked."""

    def __init__(self, *errors):
        super().__init__("ray.serve")
        self.errors = list(errors)
        self.asked = []
        self.schema = types.SimpleNamespace(LoggingConfig=lambda **_: None)

    def start(self, **options):
        self.asked.append("start")
        if self.errors:
            raise self.errors.pop(0)

    def shutdown(self):
        self.asked.append("shutdown")
        raise RuntimeError("nothing is up")


@pytest.fixture
def ray(settings, monkeypatch):
    """Ray on paper; returns how to have `serve.start` fail, and starts the service."""

    def begin(*errors):
        ray, serve = types.ModuleType("ray"), Serve(*errors)
        ray.serve, ray.shutdown = serve, lambda: None

        def init(**_):
            logs = run_folder(settings.data) / "ray" / "session_latest" / "logs"
            logs.mkdir(parents=True)
            (logs / "raylet.out").write_text("why it failed")

        def install(*_):
            ray.init = init
            monkeypatch.setitem(sys.modules, "ray", ray)
            monkeypatch.setitem(sys.modules, "ray.serve", serve)

        monkeypatch.setattr(deployment, "_set_environment", install)
        monkeypatch.setattr(deployment, "apart", nullcontext)
        monkeypatch.setattr(deployment, "_run", lambda *_: serve.asked.append("run"))
        return serve

    return begin


def test_a_front_that_was_not_up_in_time_is_started_once_more(settings, ray):
    serve = ray(RuntimeError("The actor died"))
    start(settings).premises.close()
    assert serve.asked == ["start", "shutdown", "start", "run"]


@pytest.mark.parametrize(
    "error", [RuntimeError("The actor died\nand more"), ConnectionError("no raylet"), KeyError("x")]
)
def test_whatever_ray_raises_ends_as_one_message_that_names_its_logs(settings, ray, error):
    ray(error, error)
    with pytest.raises(NotReady) as caught:
        start(settings)
    told = caught.value.detail
    assert type(error).__name__ in told
    assert "\n" not in told
    logs = settings.data / "logs" / "ray"
    assert str(logs) in told
    assert (logs / "raylet.out").read_text() == "why it failed", "the run folder is gone, and they are not"
    assert free(settings)


def test_a_replica_that_left_word_is_quoted(settings, ray, monkeypatch):
    ray()

    def fail(*_):
        fault_file(settings).parent.mkdir()
        fault_file(settings).write_text("no room for the backbone")
        raise RuntimeError("Deploying application chorus failed")

    monkeypatch.setattr(deployment, "_run", fail)
    with pytest.raises(NotReady, match="no room for the backbone"):
        start(settings)


def test_a_refusal_of_our_own_is_told_as_it_is(settings, ray, monkeypatch):
    ray()

    def fail(*_):
        raise Conflict("there is no GPU", code="no_gpu")

    monkeypatch.setattr(deployment, "_run", fail)
    with pytest.raises(Conflict, match="there is no GPU"):
        start(settings)


def test_a_cluster_whose_nodes_share_nothing_is_refused(settings):
    with pytest.raises(Conflict, match="PostgreSQL"):
        start(replace(settings, ray_address="auto"))
    assert not settings.data.exists()


def test_the_service_drains_before_it_ends(settings, monkeypatch):
    done = []

    class Leaving(Serve):
        async def shutdown_async(self):
            done.append("shutdown")

    async def drain(seconds):
        done.append(("drain", seconds))

    ray, serve = types.ModuleType("ray"), Leaving()
    ray.serve, ray.shutdown = serve, lambda: done.append("ray")
    for module in (ray, serve):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(leaving, "_drain", drain)
    monkeypatch.setattr(leaving, "close_front", lambda *_: done.append("front"))
    premises = Premises.open(settings.data)
    deployment.Running("http://127.0.0.1:1", premises, settings).stop()
    assert done == [("drain", settings.drain_s), "front", "shutdown", "ray"]
    assert free(settings)


def test_an_engine_that_is_stopped_outlasts_every_row_that_it_may_have_on_board(tmp_path):
    settings = ServiceSettings(backbone=tmp_path, data=tmp_path, drain_s=1.0)
    parts = application(settings, PROFILE)._bound_deployment.init_args
    engine, checker = (part._bound_deployment._deployment_config for part in parts[2:])
    assert engine.graceful_shutdown_timeout_s > settings.limits.max_timeout_ms / 1000
    assert checker.graceful_shutdown_timeout_s == settings.drain_s


@pytest.mark.parametrize("device", ["cuda", "cuda:1"])
def test_engines_share_the_gpus_that_ray_knows_of_and_without_one_nothing_is_deployed(tmp_path, monkeypatch, device):
    settings = ServiceSettings(backbone=tmp_path, data=tmp_path, device=device, engines=2)
    monkeypatch.setattr("ray.cluster_resources", lambda: {"GPU": 1.0})
    engine = application(settings, PROFILE)._bound_deployment.init_args[2]._bound_deployment
    assert engine.ray_actor_options["num_gpus"] == 0.5
    monkeypatch.setattr("ray.cluster_resources", dict)
    with pytest.raises(Conflict, match=f"^--device {device}: Ray finds no GPU: .*nvidia-smi") as caught:
        application(settings, PROFILE)
    assert caught.value.code == "no_gpu"


class Running:
    url = "http://127.0.0.1:1"
    stopped = 0

    def stop(self):
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN, "a second signal would leave half of it"
        self.stopped += 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_the_service_and_gives_the_handlers_back(settings, monkeypatch, number):
    running, before, turns, watched = Running(), signal.getsignal(number), [], []
    (settings.backbone / "drop").mkdir()

    class Watched:
        def __init__(self, _):
            watched.append("made")

        def tend(self):
            watched.append("tended")

        def stop(self):
            assert not running.stopped, "it publishes over what is stopped next"
            watched.append("stopped")

    class Asked(deployment.threading.Event):
        def wait(self, timeout=None):
            if len(turns) == 3:
                signal.raise_signal(number)
            turns.append(timeout)
            return False

    monkeypatch.setattr(deployment.threading, "Event", Asked)
    monkeypatch.setattr(deployment, "start", lambda _: running)
    monkeypatch.setattr(deployment, "Watcher", Watched)
    monkeypatch.setattr(deployment, "guarded", lambda: nullcontext({}))
    serve_forever(replace(settings, watch=settings.backbone / "drop"))
    assert running.stopped == 1
    assert watched == ["made", *["tended"] * 3, "stopped"]
    assert signal.getsignal(number) is before


def test_a_second_signal_on_the_heels_of_the_first_does_not_end_the_ending():
    ended = []
    with deployment._stopped_by_signals() as asked:
        try:
            signal.raise_signal(signal.SIGTERM)
        finally:
            signal.raise_signal(signal.SIGTERM)
            ended.append(asked.is_set())
    assert ended == [True]


def test_nothing_of_ray_is_imported_before_the_environment_is_set():
    code = "import sys, serving.deployment; assert not {'ray', 'torch'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])
