"""The page: one HTML file with everything in it, and the pictures as PNGs beside it."""

import json
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from loadtests.pages.canvas import png, svg
from loadtests.pages.pictures import pictures_of
from loadtests.pages.style import variables
from loadtests.pages.tables import client_of, facts_of, steps_of
from loadtests.pages.terminal import number
from loadtests.results.record import Run
from loadtests.scenarios.figures import figure_of

PAGE = "report.html"
TILES = ("throughput", "p50_ms", "p99_ms", "hit_ratio", "busy_over_quiet_p99", "fairness", "wrong")
SWEPT = ("peak_rate", "knee_rate", "knee_load", "throughput_kept", "last_over_first_p99", "wrong")


@dataclass(frozen=True)
class Shown:
    """One picture in the page."""

    title: str
    caption: str
    wide: Markup
    narrow: Markup


def draw_all(run: Run, folder: Path) -> tuple[Path, ...]:
    """Write the page and the pictures into the folder of the run; their paths, the page first."""
    written = []
    shown = []
    for picture in pictures_of(run):
        draw = partial(picture.draw, run)
        path = folder / f"{picture.name}.png"
        png(draw, path)
        written.append(path)
        wide, narrow = (Markup(svg(draw, picture.name, wide=wide)) for wide in (True, False))  # noqa: S704 - drawn here
        shown.append(Shown(picture.title, picture.caption, wide, narrow))
    page = folder / PAGE
    page.write_text(render(run, shown))
    return (page, *written)


def render(run: Run, shown: list[Shown]) -> str:
    """The HTML; everything that came from elsewhere is escaped."""
    tiles = TILES if run.scenario.sweep is None else SWEPT
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "number": number,
        "unit": lambda name: figure_of(name).unit,
        "about": lambda name: figure_of(name).about,
    }
    return environment.get_template("page.html").render(
        run=run,
        shown=shown,
        tiles=[(name, run.figures[name]) for name in tiles if run.figures.get(name) is not None],
        steps=steps_of(run),
        client=client_of(run),
        facts=facts_of(run),
        scenario=json.dumps(asdict(run.scenario), indent=1),
        light=variables(dark=False),
        dark=variables(dark=True),
    )
