import pytest

from tests.serving.registry.cluster import AVAILABLE, Cluster
from tests.serving.registry.given import url_of


@pytest.fixture(scope="session")
def cluster():
    server = Cluster()
    yield server
    server.remove()


KINDS = ["sqlite", *(["postgresql"] if AVAILABLE else [])]


@pytest.fixture(params=KINDS)
def url(request, tmp_path):
    """A registry without rows, in every kind of database that this machine has."""
    return url_of(tmp_path) if request.param == "sqlite" else request.getfixturevalue("cluster").emptied()


@pytest.fixture(params=KINDS)
def bare_url(request, tmp_path):
    """A database without a schema, of every kind that this machine has."""
    return url_of(tmp_path) if request.param == "sqlite" else request.getfixturevalue("cluster").create()
