"""Colours by role, in a light and a dark theme. Pictures are drawn in the light one; in the page roles become CSS variables."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Colour:
    """One role's colour in both themes. Light ones are all different, so that each can be found again in an SVG."""

    light: str
    dark: str


PAPER, INK, MUTED, GRID = "paper", "ink", "muted", "grid"
BLUE, ORANGE, GREEN, RED, PURPLE, TEAL = "blue", "orange", "green", "red", "purple", "teal"
COLOURS: Mapping[str, Colour] = {
    PAPER: Colour("#ffffff", "#161b22"),
    INK: Colour("#1d2433", "#e6eaf1"),
    MUTED: Colour("#667085", "#9aa5b5"),
    GRID: Colour("#e3e7ee", "#2b323d"),
    BLUE: Colour("#2f6fde", "#6ea8ff"),
    ORANGE: Colour("#d97706", "#f5ae4a"),
    GREEN: Colour("#16916b", "#4bcb9f"),
    RED: Colour("#d1435b", "#ff8496"),
    PURPLE: Colour("#7a50c7", "#b59cff"),
    TEAL: Colour("#0b8aa0", "#55c4d6"),
}
SERIES = (BLUE, ORANGE, GREEN, PURPLE, TEAL, RED)
RC: Mapping[str, object] = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 9,
    "axes.labelsize": 9,
    "axes.labelcolor": COLOURS[MUTED].light,
    "axes.edgecolor": COLOURS[GRID].light,
    "axes.linewidth": 0.9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.facecolor": "none",
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": COLOURS[GRID].light,
    "grid.linewidth": 0.8,
    "text.color": COLOURS[INK].light,
    "xtick.color": COLOURS[MUTED].light,
    "ytick.color": COLOURS[MUTED].light,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "xtick.minor.size": 0,
    "ytick.minor.size": 0,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "lines.linewidth": 1.9,
    "lines.solid_capstyle": "round",
    "svg.fonttype": "none",
    "svg.hashsalt": "chorus",
}


def light(role: str) -> str:
    """What a picture is drawn with."""
    return COLOURS[role].light


def themed(svg: str) -> str:
    """An SVG in which every role's colour is a CSS variable."""
    for role, colour in COLOURS.items():
        svg = svg.replace(colour.light, f"var(--{role})")
    return svg


def variables(*, dark: bool) -> str:
    """The CSS declarations of a theme."""
    return " ".join(f"--{role}: {colour.dark if dark else colour.light};" for role, colour in COLOURS.items())
