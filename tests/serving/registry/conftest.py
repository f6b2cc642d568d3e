import pytest

from tests.serving.registry.cluster import AVAILABLE
from tests.serving.registry.given import open_registry

collect_ignore = [] if AVAILABLE else ["test_postgres.py"]


@pytest.fixture
def registry(tmp_path, url):
    opened = open_registry(tmp_path, url=url)
    yield opened
    opened.database.close()


@pytest.fixture
def catalog(registry):
    return registry.catalog
