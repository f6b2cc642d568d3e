import pytest

from serving.api.app import build_app
from tests.serving import fakes
from tests.serving.hand import Hand
from tests.serving.server import serve


@pytest.fixture
def held(tmp_path):
    folder = tmp_path / "blobs"
    folder.mkdir()
    return fakes.make_fakes(folder)


@pytest.fixture
def hand(held):
    with serve(build_app(held.services)) as url:
        yield Hand(url)
