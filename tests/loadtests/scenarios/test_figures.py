from loadtests.scenarios.figures import FIGURES, figure_of, is_figure


def test_some_figures_are_each_tenants_own():
    assert is_figure("p99_ms", ())
    assert is_figure("amber.p99_ms", ("amber",))
    assert not is_figure("amber.p99_ms", ("birch",))
    assert not is_figure("amber.wrong", ("amber",))
    assert not is_figure("p42_ms", ())
    assert figure_of("amber.p99_ms") is FIGURES["p99_ms"]


def test_every_figure_says_what_it_is():
    assert all(figure.about and not figure.about.endswith(".") for figure in FIGURES.values())
