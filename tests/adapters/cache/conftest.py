"""Fixtures for the cache."""

import pytest

from tests.adapters.cache.fakes import World


@pytest.fixture
def build(tmp_path):
    """Make worlds whose books are audited, and whose loader is stopped, at the end of the test."""
    worlds = []

    def make(device, **options):
        worlds.append(World(tmp_path / str(len(worlds)), device, **options))
        return worlds[-1]

    (tmp_path / "0").mkdir()
    (tmp_path / "1").mkdir()
    yield make
    for world in worlds:
        faults = world.cache.check()
        world.cache.close()
        assert faults == ()
