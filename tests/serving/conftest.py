import logging

import pytest

from tests.serving.registry.cluster import Cluster
from tests.serving.registry.given import url_of


@pytest.fixture(scope="session")
def cluster():
    server = Cluster()
    yield server
    server.remove()


KINDS = ["sqlite", "postgresql"]


@pytest.fixture(params=KINDS)
def url(request, tmp_path):
    """A registry without rows, in every kind of database that there is."""
    return url_of(tmp_path) if request.param == "sqlite" else request.getfixturevalue("cluster").emptied()


@pytest.fixture(params=KINDS)
def bare_url(request, tmp_path):
    """A database without a schema, of every kind that there is."""
    return url_of(tmp_path) if request.param == "sqlite" else request.getfixturevalue("cluster").create()


@pytest.fixture
def chorus_log(caplog) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO, "chorus")
    return caplog
