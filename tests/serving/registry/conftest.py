import pytest

from tests.serving.registry.cluster import AVAILABLE, Cluster
from tests.serving.registry.given import open_registry, url_of

collect_ignore = [] if AVAILABLE else ["test_postgres.py"]


@pytest.fixture(scope="session")
def cluster():
    server = Cluster()
    yield server
    server.remove()


@pytest.fixture(params=["sqlite", *(["postgresql"] if AVAILABLE else [])])
def any_url(request, tmp_path):
    """An empty database of every kind that this machine has."""
    return url_of(tmp_path) if request.param == "sqlite" else request.getfixturevalue("cluster").emptied()


@pytest.fixture
def url(tmp_path):
    return url_of(tmp_path)


@pytest.fixture
def registry(tmp_path, url):
    opened = open_registry(tmp_path, url=url)
    yield opened
    opened.database.close()


@pytest.fixture
def catalog(registry):
    return registry.catalog
