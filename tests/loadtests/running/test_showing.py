import io
from collections import Counter

from rich.console import Console

from loadtests.running.showing import Clock, Show


def shown(work, **how):
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=150, **how)
    with Show(console=console) as show:
        work(show)
        show._progress.refresh()
    return out.getvalue()


def test_it_tells_what_is_done_and_how_far(monkeypatch):
    def work(show):
        show.begin("publishing", 40)
        show.at(10)
        show.line("peak: 50.0 requests/s")

    told = shown(work)
    assert "publishing" in told
    assert "10/40" in told
    assert "peak: 50.0 requests/s" in told


def test_a_take_moves_with_time_and_tells_wrong_answers():
    def work(show):
        clock = Clock(show, "round 1", 10.0)
        clock.heard(Counter(right=3))
        clock.begun(0.0, [1])
        clock.heard(Counter(right=5, wrong=2))

    told = shown(work)
    assert "5 right" in told
    assert "2 \x1b[1;31mwrong" in told
    assert "10/10" in told  # the machine has run longer than ten seconds


def test_before_anything_began_nothing_is_told():
    def work(show):
        show.at(3)
        show.verdicts(Counter(right=1))

    assert "right" not in shown(work)


def test_quiet_tells_nothing(capfd):
    with Show(quiet=True) as show:
        show.begin("publishing", 4)
        show.at(2, 5)
        show.line("done")
    assert capfd.readouterr() == ("", "")
