import pytest

from serving.commands.stores import open_stores, seconds
from serving.errors import BadRequest, Conflict, NotFound
from serving.registry import database as databases
from serving.registry.blobs.local import LocalBlobs
from serving.registry.whereabouts import remember


def test_a_folder_without_a_registry_is_refused_and_nothing_is_made_in_it(tmp_path):
    with pytest.raises(NotFound, match="holds no registry"), open_stores(tmp_path, "", ""):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_new_registry_is_made_where_that_is_wanted_and_found_afterwards(tmp_path):
    with open_stores(tmp_path, "", "", new=True) as stores:
        assert isinstance(stores.blobs, LocalBlobs)
    with open_stores(tmp_path, "", "") as stores, stores.database.read() as connection:
        assert connection.exec_driver_sql("SELECT revision FROM meta").scalar_one() == 0


@pytest.mark.parametrize(("text", "found"), [("90s", 90.0), ("30m", 1800.0), (" 24h ", 86400.0), ("1.5 d", 129600.0)])
def test_durations_are_told_in_their_units(text, found):
    assert seconds(text) == found


@pytest.mark.parametrize("text", ["", "24", "h", "-1h", "1w", "1h30m"])
def test_what_is_no_duration_is_refused(text):
    with pytest.raises(BadRequest, match="one of s, m, h, d"):
        seconds(text)


def test_a_folder_whose_service_went_on_with_another_database_names_that_one(tmp_path):
    with open_stores(tmp_path, "", "", new=True):
        pass
    url = f"sqlite:///{tmp_path / 'elsewhere.sqlite'}"
    with open_stores(tmp_path, url, "") as stores:
        remember(tmp_path, url, stores.database)
    with pytest.raises(Conflict, match=r"at sqlite:.*elsewhere.*--database-url"), open_stores(tmp_path, "", ""):
        pass
    with open_stores(tmp_path, url, ""):
        pass


def test_what_a_release_before_is_using_is_not_migrated(tmp_path):
    engine = databases._engine(f"sqlite:///{tmp_path / 'registry.sqlite'}")
    databases._migrate(engine, "0003")
    engine.dispose()
    with pytest.raises(Conflict, match="earlier release"), open_stores(tmp_path, "", ""):
        pass
