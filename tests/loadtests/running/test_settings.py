import pytest

from loadtests.run import parser
from loadtests.running.settings import OUT, settings_of
from loadtests.scenarios.reading import BadScenario
from loadtests.served.target import BadTarget

WORDS = ["zipf", "--backbone", "tiny", "--dtype", "bfloat16", "--engines", "2", "--serve", "--drain 1", "--seed", "7"]


def settings(folder, *words):
    return settings_of(parser().parse_args([*words]), "the command", folder)


def test_a_service_of_our_own_is_started_as_asked(tmp_path):
    found = settings(tmp_path, *WORDS)
    assert (found.own.dtype, found.own.engines, found.own.options) == ("bfloat16", 2, ("--drain", "1"))
    assert (found.name, found.seed, found.url, found.command) == ("zipf", 7, None, "the command")
    assert found.own.backbone == found.backbone == tmp_path / "tiny"
    assert found.out.parent == OUT
    assert found.out.name.startswith("zipf-")


def test_answers_may_be_off_by_what_the_numbers_of_the_service_allow(tmp_path):
    assert settings(tmp_path, *WORDS).tolerance == 0.1
    assert settings(tmp_path, "zipf", "--url", "http://h").tolerance == 1e-4
    assert settings(tmp_path, *WORDS, "--tolerance", "0.5").tolerance == 0.5


def test_a_running_service_needs_no_backbone(tmp_path):
    found = settings(tmp_path, "zipf", "--url", "http://h", "--set", "arrivals.rate=5", "--leave")
    assert (found.own, found.backbone, found.url, found.leave) == (None, None, "http://h", True)
    assert found.scenario.arrivals.rate == 5


def test_what_can_not_be_is_refused(tmp_path):
    with pytest.raises(BadTarget, match="--clients"):
        settings(tmp_path, *WORDS, "--clients", "0")
    with pytest.raises(BadScenario):
        settings(tmp_path, "zpif")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").touch()
    with pytest.raises(BadTarget, match="give a new folder"):
        settings(tmp_path, *WORDS, "--out", str(tmp_path / "full"))
