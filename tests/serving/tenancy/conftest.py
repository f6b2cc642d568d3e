import pytest

from serving.registry.catalog import Catalog
from serving.registry.database import Database


@pytest.fixture
def database(url):
    opened = Database.open(url)
    yield opened
    opened.close()


@pytest.fixture
def catalog(database):
    return Catalog(database)
