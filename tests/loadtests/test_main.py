import pytest

from loadtests.__main__ import VERBS, main


def test_every_verb_is_named(capsys):
    assert main(["--help"]) == 0
    told = capsys.readouterr().out
    assert all(verb in told for verb in ("run", "compare", "plot", "list", "peers", "prove"))
    assert all(verb.about in told for verb in VERBS.values())


@pytest.mark.parametrize("words", [[], ["fly"]])
def test_without_a_verb_nothing_is_done(words, capsys):
    assert main(words) == 2
    assert "usage" in capsys.readouterr().err


@pytest.mark.parametrize("verb", ["run", "compare", "plot", "list", "prove"])
def test_every_verb_has_a_help_of_its_own(verb, capsys):
    with pytest.raises(SystemExit) as left:
        main([verb, "--help"])
    assert left.value.code == 0
    assert f"python -m loadtests {verb}" in capsys.readouterr().out
