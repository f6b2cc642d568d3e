import re
from dataclasses import replace
from html.parser import HTMLParser

from loadtests.peers.judge import judge
from loadtests.peers.page import html
from tests.loadtests.peers.conftest import WRONG

MACHINE = {"cores": 2, "memory_bytes": 24 << 30, "instructions": ["avx2"]}


class Cells(HTMLParser):
    """The texts of a page, and what it would fetch."""

    def __init__(self):
        super().__init__()
        self.texts, self.fetched = [], []

    def handle_data(self, data):
        self.texts.append(data.strip())

    def handle_starttag(self, tag, attrs):
        self.fetched += [value for name, value in attrs if name in ("src", "href")]


def read(text):
    cells = Cells()
    cells.feed(text)
    return cells


def test_the_page_shows_ratios_figures_versions_and_machine_and_fetches_nothing(outcome):
    cells = read(html([outcome], judge(outcome), MACHINE))
    assert cells.fetched == []
    assert "3.00" in cells.texts
    assert "3.00 to 3.50" in cells.texts
    assert "cores: 2 · instructions: avx2 · memory: 24 GiB" in cells.texts
    assert any("PEFT (peft 0.21.2, torch 2.13.0)" in text for text in cells.texts)
    assert cells.texts.count("holds") == 3
    assert cells.texts.count("fails") == 1


def test_the_longest_bar_is_as_wide_as_there_is_room(outcome):
    widths = [float(width) for width in re.findall(r"width:([0-9.]+)%'", html([outcome], [], MACHINE))]
    assert max(widths) == 100.0
    assert len(widths) == len(outcome.pairs())


def test_what_libraries_say_is_escaped(outcome):
    assert "<notes>" not in html([outcome], [], MACHINE)
    assert "&lt;notes&gt;" in html([outcome], [], MACHINE)


def test_wrong_answers_have_no_ratio(outcome):
    worse = replace(outcome, standings=tuple(replace(one, agreement=WRONG) for one in outcome.standings))
    cells = read(html([worse], judge(worse), MACHINE))
    assert cells.texts.count("wrong answers: does not count") == len(worse.pairs())
    assert "3.00 to 3.50" not in cells.texts
