import pytest

from serving.registry.database import Database
from tests.serving.registry.given import open_registry, url_of


@pytest.fixture
def registry(tmp_path, url):
    opened = open_registry(tmp_path, url=url)
    yield opened
    opened.database.close()


@pytest.fixture
def catalog(registry):
    return registry.catalog


@pytest.fixture
def other(tmp_path):
    """A registry that has nothing to do with the first one."""
    opened = Database.open(url_of(tmp_path / "other"))
    yield opened
    opened.close()
