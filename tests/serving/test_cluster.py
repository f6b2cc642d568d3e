"""What is refused before anything is built on a cluster, and what is built otherwise."""

import io
import json
import os

import pytest
from pydantic import ValidationError

from serving import cluster, deployment
from serving.cluster import Arguments, build
from serving.commands.stored_keys import open_store
from serving.errors import BadRequest, Conflict, Forbidden, Unprocessable
from serving.logs import configure
from serving.premises import everywhere
from tests.serving.samples import PROFILE, tokenizer_json

BUCKET = "s3://packages/production"


@pytest.fixture
def arguments(tmp_path, monkeypatch):
    """Arguments over a backbone that can be looked at, and no Ray: what would be built is given back as it is."""
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setattr(deployment, "read_profile", lambda _: PROFILE)
    monkeypatch.setattr(cluster, "prepare_registry", lambda settings, profile: prepared.append(settings))
    monkeypatch.setattr(cluster, "application", lambda settings, profile: (settings, profile))
    monkeypatch.setattr(cluster, "refuse_open_door", lambda settings: None)
    prepared = []
    (tmp_path / "tokenizer.json").write_bytes(tokenizer_json())
    secret = tmp_path / "database_url"
    secret.write_text("postgresql+psycopg://chorus:x@db/chorus\n")

    def made(**others) -> Arguments:
        given = {"backbone": tmp_path, "data": tmp_path / "data", "database_url_file": secret, "blob_url": BUCKET}
        return Arguments(**given | others)

    made.prepared = prepared
    return made


def test_the_application_is_built_from_the_arguments_once_the_registry_is_prepared(arguments, tmp_path):
    settings, profile = build(arguments(engines=3, device_cache="2MiB", drain=4, trace_endpoint="http://c:4318"))
    assert profile is PROFILE
    assert arguments.prepared == [settings]
    assert settings.database_url == "postgresql+psycopg://chorus:x@db/chorus"
    assert (settings.blob_url, settings.engines, settings.drain_s) == (BUCKET, 3, 4)
    assert settings.cache.device_bytes == 2 << 20
    assert not settings.cuda_graphs
    assert build(arguments(device="cuda", cuda_graphs=True))[0].cuda_graphs
    assert settings.trace_endpoint == "http://c:4318"
    assert settings.ray_address, "replicas that are kept on loopback reach no other node"
    assert not settings.loopback
    assert (tmp_path / "data").is_dir()


@pytest.fixture
def lines():
    """What is logged meanwhile."""
    stream = io.StringIO()
    configure(stream=stream)
    yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_node_that_was_started_without_the_environment_is_told_of_and_serves(arguments, monkeypatch, lines):
    needed = everywhere(arguments().settings(), 1)
    for name, value in needed.items():
        monkeypatch.setenv(name, value)
    build(arguments())
    assert lines() == []
    monkeypatch.delenv("RAY_SERVE_HAPROXY_TIMEOUT_SERVER_S")
    monkeypatch.delenv("OMP_NUM_THREADS")
    build(arguments())
    (line,) = lines()
    assert line["level"] == "warning"
    assert line["missing"] == ["OMP_NUM_THREADS", "RAY_SERVE_HAPROXY_TIMEOUT_SERVER_S"]


@pytest.mark.parametrize("others", [{"blob_url": ""}, {"database_url": "sqlite:///x"}])
def test_truth_that_lies_on_one_node_is_refused(arguments, tmp_path, others):
    if "database_url" in others:
        (tmp_path / "database_url").write_text(others.pop("database_url"))
    with pytest.raises(Conflict, match="PostgreSQL") as caught:
        build(arguments(**others))
    assert caught.value.code == "not_shared"
    assert arguments.prepared == []


def test_a_cluster_that_asks_nobody_for_a_token_is_refused(arguments, monkeypatch):
    monkeypatch.delitem(os.environ, "RAY_AUTH_MODE")
    with pytest.raises(Conflict, match="RAY_AUTH_MODE=token"):
        build(arguments())


def test_a_service_without_keys_is_refused(arguments, monkeypatch, tmp_path):
    def open_door(settings):
        with open_store(tmp_path, "") as store:
            assert not store.since(-1)[1]
        raise Forbidden(f"--host {settings.host}", code="no_keys")

    monkeypatch.setattr(cluster, "refuse_open_door", open_door)
    with pytest.raises(Forbidden, match=r"0\.0\.0\.0"):
        build(arguments())
    assert arguments.prepared == []


def test_a_folder_that_is_no_backbone_is_refused(arguments, tmp_path):
    (tmp_path / "tokenizer.json").unlink()
    with pytest.raises(Unprocessable, match=r"no tokenizer\.json"):
        build(arguments())


def test_a_secret_that_is_not_mounted_is_told_by_its_place(arguments, tmp_path):
    with pytest.raises(BadRequest, match=r"database_url_file .*/nowhere: No such file"):
        build(arguments(database_url_file=tmp_path / "nowhere"))


def test_a_size_that_is_none_is_refused(arguments):
    with pytest.raises(BadRequest, match="host_cache: 'many' is not a size"):
        build(arguments(host_cache="many"))


@pytest.mark.parametrize(
    "wrong", [{"engine": 2}, {"engines": 0}, {"device": "tpu"}, {"drain": -1}, {"database_url": "postgresql://x:y@z"}]
)
def test_an_argument_that_is_not_known_or_not_possible_is_refused(arguments, wrong):
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        arguments(**wrong)
