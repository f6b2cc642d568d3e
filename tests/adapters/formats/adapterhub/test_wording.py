import pytest

from adapters.formats.adapterhub.wording import Wording, integral
from adapters.manifest import PartSpec
from tests.adapters.formats.adapterhub.reading import host


def read(settings, _):
    yield PartSpec("x", {"rank": settings.count("r"), "kind": settings.get("kind")})


def parts(config):
    reasons = []
    found = Wording("X", ("r",), {"kind": "usual"}, ("dropout",), read).parts(config, host(), reasons)
    return found, reasons


def test_a_configuration_with_known_members_becomes_parts():
    found, reasons = parts({"architecture": "x", "r": 2, "dropout": 0.1, "other": None, "off": False})
    assert (found, reasons) == ([PartSpec("x", {"rank": 2, "kind": "usual"})], [])
    assert parts({"r": 2, "kind": None})[0][0].config["kind"] is None


@pytest.mark.parametrize(
    ("config", "count", "said"),
    [
        ({}, 1, "the X configuration lacks r"),
        ({"r": 1, "trick": 1, "more": "y"}, 2, "X: unknown setting 'more'"),
        ({"r": "a"}, 1, "X: r must be an integer from 1 to 100000, not 'a'"),
    ],
)
def test_everything_else_is_a_reason(config, count, said):
    _, reasons = parts(config)
    assert len(reasons) == count
    assert said in reasons[0]


def test_whole_numbers_are_written_as_integers():
    assert [repr(integral(x)) for x in (8.0, 0.5, 3)] == ["8", "0.5", "3"]
