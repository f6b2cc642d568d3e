import re

import pytest

from loadtests.pages.canvas import Canvas, counts, gaps, legend, mark, milliseconds, png, svg, wait
from loadtests.pages.style import BLUE, COLOURS, light


def draw(canvas: Canvas):
    for axes in canvas.panels(3):
        axes.plot([0, 1, 2], gaps([1.0, None, 40.0]), color=light(BLUE), marker="o", label="a line")
        axes.fill_between([0, 1, 2], [1, 1, 1], [2, 2, 2], color=light(BLUE), alpha=0.2)
        milliseconds(axes)
        mark(axes, 1.0, "here")
        legend(axes)


def ids(text):
    return set(re.findall(r'id="([^"]+)"', text))


def test_panels_stand_side_by_side_where_there_is_room():
    sizes = {}

    def measuring(canvas):
        canvas.panels(4, height=2.0)
        sizes[canvas.wide] = tuple(canvas.figure.get_size_inches())

    for wide in (True, False):
        svg(measuring, "x", wide=wide)
    assert sizes[True][0] > 2 * sizes[False][0]
    assert sizes[False][1] > 1.8 * sizes[True][1]


def test_spare_places_of_the_grid_are_empty():
    def odd(canvas):
        assert len(canvas.panels(3)) == len(canvas.figure.axes) == 3

    svg(odd, "x", wide=True)


def test_a_png_is_written(tmp_path):
    png(draw, tmp_path / "x.png")
    assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")


def test_an_svg_fits_its_place_and_its_theme():
    text = svg(draw, "x", wide=True)
    head = text[: text.index(">")]
    assert head.startswith("<svg")
    assert "viewBox" in head
    assert "width=" not in head
    assert "height=" not in head
    assert all(colour.light not in text for colour in COLOURS.values())
    assert "here</text>" in text


def test_no_two_svgs_of_a_page_share_what_they_refer_to():
    one, two, three = svg(draw, "x", wide=True), svg(draw, "x", wide=False), svg(draw, "y", wide=True)
    assert not ids(one) & ids(two)
    assert not ids(one) & ids(three)
    for text in (one, two, three):
        used = set(re.findall(r'(?:"#|url\(#)([^")]+)', text))
        assert used
        assert used <= ids(text)


def test_a_drawing_is_the_same_each_time():
    assert svg(draw, "x", wide=True) == svg(draw, "x", wide=True)


def test_without_answers_a_panel_says_so():
    def empty(canvas):
        (axes,) = canvas.panels(1)
        axes.plot([0, 1], gaps([None, None]))
        milliseconds(axes)

    assert "no right answers</text>" in svg(empty, "x", wide=True)


def test_rates_begin_at_nothing():
    def rising(canvas):
        (axes,) = canvas.panels(1)
        axes.plot([0, 1], [90, 100])
        counts(axes)
        assert axes.get_ylim()[0] == 0

    svg(rising, "x", wide=True)


@pytest.mark.parametrize(("value", "told"), [(0.5, "0.5 ms"), (20.0, "20 ms"), (1000.0, "1 s"), (2500.0, "2.5 s")])
def test_waits_are_told_in_few_letters(value, told):
    assert wait(value) == told
