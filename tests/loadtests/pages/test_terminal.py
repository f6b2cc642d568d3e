import io
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from loadtests.pages.terminal import number, print_run
from tests.loadtests.fake import plain_run


def printed(run):
    out = io.StringIO()
    print_run(run, [Path("out/report.html")], Console(file=out, width=120))
    return out.getvalue()


def test_figures_checks_and_verdict():
    told = printed(plain_run())
    assert "throughput" in told
    assert "requests/s" in told
    assert told.count("holds") == 5
    assert "passed out/report.html" in told


def test_what_does_not_hold_stands_out_with_notes_and_faults():
    run = plain_run()
    broken = replace(run, checks=(replace(run.checks[0], holds=False),), notes=("A note.",), faults=("off by 3",))
    told = printed(broken)
    assert "does not hold" in told
    assert "did not pass" in told
    assert "A note." in told
    assert "off by 3" in told


def test_a_name_in_brackets_is_told_as_it_is():
    out = io.StringIO()
    print_run(replace(plain_run(), name="mine[/]"), [Path("out[bold]/report.html")], Console(file=out, width=120))
    assert "mine[/]: " in out.getvalue()
    assert "out[bold]/report.html" in out.getvalue()


@pytest.mark.parametrize(
    ("value", "told"),
    [(None, "-"), (0.0, "0"), (3.0, "3"), (0.12345, "0.123"), (12.345, "12.3"), (123.45, "123.5"), (12345.6, "12,346")],
)
def test_figures_have_as_few_digits_as_tell_them(value, told):
    assert number(value) == told
