from dataclasses import replace
from html.parser import HTMLParser

from loadtests.pages.page import PAGE, draw_all, render
from tests.loadtests.fake import phased_run, plain_run, sweep_run

VOID = {"meta", "br", "path", "use", "rect", "link"}


class Well(HTMLParser):
    """Sees that every element that is opened is closed."""

    def __init__(self):
        super().__init__()
        self.open = []
        self.text = []
        self.outside = []

    def handle_starttag(self, tag, attrs):
        if tag not in VOID:
            self.open.append(tag)
        self.outside += [
            value for name, value in attrs if name in ("src", "href") and value and not value.startswith("#")
        ]

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def read(page):
    parser = Well()
    parser.feed(page)
    assert parser.open == []
    assert parser.outside == []  # one file, nothing from elsewhere
    return " ".join(" ".join(parser.text).split())


def test_the_page_and_its_pictures_are_written(tmp_path):
    page, *pictures = draw_all(sweep_run(), tmp_path)
    assert page == tmp_path / PAGE
    assert {path.name for path in pictures} == {"load.png", "time.png", "percentiles.png"}
    text = page.read_text()
    assert text.count("<svg") == 6
    read(text)


def test_it_tells_verdict_figures_and_what_ran():
    told = read(render(plain_run(), []))
    for word in ("test passed", "a test", "p99", "python -m loadtests run test", "seed 0", "a processor"):
        assert word in told
    assert "Wrong answers" not in told
    assert "distinct per batch" in told
    assert "hit ratio" in told


def test_a_run_that_did_not_pass_says_so_and_why():
    run = plain_run()
    broken = replace(run, checks=(replace(run.checks[0], holds=False), *run.checks[1:]), faults=("amber: off by 3",))
    told = read(render(broken, []))
    assert "did not pass" in told
    assert f"✗ {run.checks[0].figure}" in told
    assert "amber: off by 3" in told


def test_what_came_from_elsewhere_is_escaped():
    run = replace(plain_run(), command="<script>alert(1)</script>", notes=("<b>",), faults=("<i>",))
    text = render(run, [])
    assert "<script>" not in text
    assert "&lt;i&gt;" in text


def test_steps_have_a_row_each():
    text = render(sweep_run(rounds=2), [])
    assert text.count("refused") >= 2
    assert "offered load, share of the peak" in text
    read(render(phased_run(), []))


def test_it_follows_the_readers_theme_and_fits_a_phone():
    text = render(plain_run(), [])
    assert "prefers-color-scheme: dark" in text
    assert 'name="viewport"' in text
