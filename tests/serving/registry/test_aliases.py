import pytest

from serving.errors import NotFound
from serving.registry.aliases import point, remove
from serving.registry.change import Change
from tests.serving.registry.given import ACME, report_of

KEY = ("acme", "adapter", "ada")


@pytest.fixture
def named(registry):
    for data in (b"one", b"two"):
        registry.catalog.add_version(ACME, "adapter", "ada", report_of(data), promote=False)
    return registry


def told(registry):
    return [(e.action, e.detail, e.before, e.after) for e in registry.catalog.history(*KEY)][:-2][::-1]


def test_every_step_says_from_where_to_where(named):
    for step in (1, 2):
        with named.database.write() as write:
            change = Change(write, "key1", 1.0)
            point(change, KEY, "prod", step)
    with named.database.write() as write:
        change = Change(write, "key1", 1.0)
        remove(change, change.present(KEY), "prod")
    assert told(named) == [
        ("alias", "version 1", "", '{"version":1}'),
        ("alias", "version 2, was version 1", '{"version":1}', '{"version":2}'),
        ("unalias", "was version 2", '{"version":2}', ""),
    ]


def test_pointing_where_it_points_is_no_step(named):
    for _ in range(2):
        with named.database.write() as write:
            change = Change(write, "key1", 1.0)
            point(change, KEY, "prod", 1)
    assert len(told(named)) == 1


def test_an_alias_that_is_not_there_is_not_removed(named):
    with pytest.raises(NotFound, match="no alias 'prod'"), named.database.write() as write:
        change = Change(write, "key1", 1.0)
        remove(change, change.present(KEY), "prod")
    assert told(named) == []
