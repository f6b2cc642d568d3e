"""What a picture shows: the words in it, and its lines by their labels."""

import re

from matplotlib import rc_context
from matplotlib.figure import Figure

from loadtests.pages.canvas import Canvas, svg
from loadtests.pages.style import RC


def words(draw, run, *, wide=True):
    text = svg(lambda canvas: draw(run, canvas), "x", wide=wide)
    return re.findall(r">([^<>]+)</(?:text|tspan)>", text)


def panels(draw, run, *, wide=True):
    with rc_context(dict(RC)):
        figure = Figure(layout="constrained")
        draw(run, Canvas(figure, wide))
        return figure.axes


def line(axes, label):
    """x and y of a labelled line."""
    (found,) = [line for line in axes.get_lines() if line.get_label() == label]
    return [float(x) for x in found.get_xdata()], [float(y) for y in found.get_ydata()]
