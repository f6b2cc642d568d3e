import re

import pytest
from starlette.testclient import TestClient

from serving.api.app import build_app
from serving.api.watching import Tally
from serving.metrics import GatewayMetrics, render
from serving.registry.journal import Journal, Outcome
from tests.serving import fakes

MINE = Outcome("acme/tone", "acme", "tone", "s", "published", 5.0, 3, "sha256:" + "a" * 64)
BAD = Outcome("acme/bad", "acme", "bad", "s", "refused", 6.0, reasons=("no tensor",))
FOREIGN = Outcome("other/secret", "other", "secret", "s", "published", 7.0, 1, "sha256:" + "b" * 64)
NOBODYS = Outcome("stray.txt", "", "", "", "refused", 8.0, reasons=("outside",))


@pytest.fixture
def journal(tmp_path):
    (tmp_path / "watched").mkdir()
    opened = Journal.open(tmp_path, tmp_path / "watched")
    for outcome in (MINE, BAD, FOREIGN, NOBODYS):
        opened.keep(outcome)
    return opened


@pytest.fixture
def held(tmp_path, journal):
    held = fakes.make_fakes(tmp_path)
    object.__setattr__(held.services, "watched", tmp_path)
    return held


@pytest.fixture
def http(held):
    return TestClient(build_app(held.services), base_url="http://127.0.0.1")


def seen(http, held, *scopes):
    bearer = {"authorization": f"Bearer {held.keyring.add('acme', *scopes).secret}"}
    return http.get("/v1/watch", headers=bearer)


def test_a_tenant_sees_its_own_places_with_their_reasons(http, held):
    answer = seen(http, held, "operate")
    assert answer.json()["watching"] is True
    assert [(item["place"], item["state"], item["reasons"]) for item in answer.json()["items"]] == [
        ("acme/bad", "refused", ["no tensor"]),
        ("acme/tone", "published", []),
    ]
    assert answer.json()["items"][1]["version"] == 3
    assert "secret" not in answer.text
    assert seen(http, held, "predict", "publish").status_code == 403


def test_an_admin_sees_all_and_what_is_nobodys(http, held):
    items = seen(http, held, "operate", "admin").json()["items"]
    assert [item["place"] for item in items] == ["acme/bad", "acme/tone", "other/secret", "stray.txt"]


def test_without_a_watched_folder_there_is_nothing(tmp_path):
    bare = fakes.make_fakes(tmp_path)
    answer = TestClient(build_app(bare.services), base_url="http://127.0.0.1").get("/v1/watch")
    assert answer.json() == {"watching": False, "items": []}


def counted(metrics, word):
    (line,) = re.findall(f'chorus_watch_files_total{{outcome="{word}"}} (.*)', render(metrics.registry))
    return float(line)


def test_what_is_counted_since_the_start_is_a_metric(tmp_path, journal):
    metrics = GatewayMetrics()
    metrics.watch(Tally(tmp_path))
    assert (counted(metrics, "published"), counted(metrics, "refused")) == (0, 0)
    journal.keep(BAD)
    journal.keep(MINE, word="unchanged")
    assert (counted(metrics, "refused"), counted(metrics, "unchanged"), counted(metrics, "published")) == (1, 1, 0)
    assert counted(metrics, "refused") == 1, "to look counts nothing"


def test_another_folder_is_counted_anew(tmp_path, journal):
    metrics = GatewayMetrics()
    metrics.watch(Tally(tmp_path))
    (tmp_path / "other").mkdir()
    Journal.open(tmp_path, tmp_path / "other").keep(BAD)
    assert counted(metrics, "refused") == 1
