import pytest

from tests.serving.registry.given import open_registry


@pytest.fixture
def registry(tmp_path, url):
    opened = open_registry(tmp_path, url=url)
    yield opened
    opened.database.close()


@pytest.fixture
def catalog(registry):
    return registry.catalog
