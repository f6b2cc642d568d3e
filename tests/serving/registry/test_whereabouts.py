"""A folder's note leads to the registry that its service uses, and gives no secret away."""

import json

import pytest

from serving.errors import Conflict, NotReady
from serving.registry.database import Database
from serving.registry.whereabouts import refuse_elsewhere, remember
from tests.serving.registry.blobs.faults import Disk


@pytest.fixture
def database(url):
    opened = Database.open(url)
    yield opened
    opened.close()


def test_a_folder_without_a_note_may_have_any_registry(database, tmp_path):
    refuse_elsewhere(tmp_path, database)


def test_the_registry_of_the_last_start_is_meant_and_every_other_one_is_told_where_that_is(database, other, tmp_path):
    remember(tmp_path, "sqlite:///elsewhere", other)
    remember(tmp_path, "postgresql://db.internal/chorus", database)
    refuse_elsewhere(tmp_path, database)
    with pytest.raises(Conflict, match=r"at postgresql://db\.internal/chorus.*--database-url") as caught:
        refuse_elsewhere(tmp_path, other)
    assert caught.value.code == "other_registry"


def test_no_secret_is_written(database, tmp_path):
    url = "postgresql+psycopg://chorus:hunter2@db.internal:5432/chorus?host=/run/pg&password=hunter3&sslkey=hunter4"
    remember(tmp_path, url, database)
    (note,) = tmp_path.glob("registry.json*")
    assert "hunter" not in note.read_text()
    assert json.loads(note.read_text())["at"] == (
        "postgresql+psycopg://chorus:***@db.internal:5432/chorus?host=%2Frun%2Fpg"
    )


def test_a_note_is_whole_or_as_it_was_whatever_the_disk_does(database, other, tmp_path):
    remember(tmp_path, "sqlite:///one", other)
    for at in range(1, 20):
        with Disk(at, 5) as disk:
            try:
                remember(tmp_path, "sqlite:///two", database)
            except NotReady:
                assert json.loads((tmp_path / "registry.json").read_text())["at"] in ("sqlite:///one", "sqlite:///two")
        if not disk.failed:
            break
    assert at > 3
    refuse_elsewhere(tmp_path, database)
